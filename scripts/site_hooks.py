"""Hooks of the documentation site (mkdocs.yml): pages that nobody listed, what is known of each system, numbers of figures.

- Pages of docs/models/ are listed under Systems, pages of docs/api/ under API, and other unlisted pages under Manual.
- A page of a system gets its recipes, its records with samples, and its API, from the registry, recipes/ and records/.
- `{{figure:FILE:KEY}}` in a page is the number KEY that docs/figures/figures.json has of the figure FILE; `{{figure:FILE:KEY:.3f}}` rounds it.
- `{{newcomer}}` are the times in benchmarks/results/newcomer.json.
- `{{include:PATH}}` is a file of the repository as a block of code.
"""

from __future__ import annotations

import inspect
import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
NUMBER = re.compile(r"\{\{figure:([\w.+-]+):([\w-]+)(?::(\.\d[fg]))?\}\}")
INCLUDE = re.compile(r"\{\{include:([\w./-]+)\}\}")
LANGUAGES = {".py": "python", ".sh": "sh", ".yaml": "yaml", ".json": "json"}


def on_config(config: Any) -> Any:
    """Complete the navigation."""
    docs = Path(config["docs_dir"])
    listed = set(re.findall(r"[\w/-]+\.md", json.dumps(config["nav"])))
    for section in config["nav"]:
        ((name, pages),) = section.items()
        folder = {"Systems": "models", "API": "api", "Manual": ".", "Guide": "guide"}.get(name)
        if folder is not None:
            found = sorted(page.relative_to(docs).as_posix() for page in (docs / folder).glob("*.md"))
            pages += [page for page in found if page not in listed]
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in numbers and files; add what is known of a system to its page."""
    markdown = fill_in(markdown)
    path = Path(page.file.src_path)
    return markdown + (system_notes(path.stem, markdown) if path.parts[0] == "models" else "")


def fill_in(markdown: str) -> str:
    """The page with numbers of figures and files in it.

    Raises:
        KeyError: A figure or number is unknown.
        FileNotFoundError: A file is missing.
    """
    record = json.loads((ROOT / "docs/figures/figures.json").read_text())["figures"]

    def number(found: re.Match[str]) -> str:
        figure, key, form = found.groups()
        value = record[figure][key]
        return (format(value, form) if form else str(value)).replace("-", "−")

    def include(found: re.Match[str]) -> str:
        file = ROOT / found[1]
        return f"```{LANGUAGES.get(file.suffix, '')}\n{file.read_text().rstrip()}\n```"

    markdown = INCLUDE.sub(include, NUMBER.sub(number, markdown))
    return markdown.replace("{{newcomer}}", newcomer()) if "{{newcomer}}" in markdown else markdown


def newcomer() -> str:
    """The times of the newcomer's path, from its record."""
    result = json.loads((ROOT / "benchmarks/results/newcomer.json").read_text())
    installed = any(step["command"].startswith("pip ") for step in result["steps_timed"])
    rows = [f"| `{step['command']}` | {step['seconds']} | {step['cpu_seconds']} |" for step in result["steps_timed"]]
    return (
        "| command | seconds | CPU-seconds |\n|---|---|---|\n"
        + "\n".join(rows)
        + f"\n\nIn all {result['seconds']:.0f} seconds, "
        f"{result['cpu_seconds']:.0f} of them of CPU, on {result['machine']['cpus']} cores{'' if installed else ', without the installation'}. {result['images']} images of "
        f"{result['image_bytes']:,} bytes as PNG became {result['compressed_bytes']:,} bytes; test images cost {result['test_bits_per_dim']:.3f} bits/dim, {result['kind']} "
        "(`benchmarks/results/newcomer.json`)."
    )


def system_notes(stem: str, markdown: str) -> str:
    """Recipes, records, samples and API of the systems that a page speaks of: its name, and names in its headings and tables."""
    from codelength.models.registry import SYSTEMS

    if stem not in SYSTEMS:
        return ""
    family, pages = SYSTEMS[stem][0], {page.stem for page in (ROOT / "docs/models").glob("*.md")}
    systems = [stem] + [
        name for name, (of, _) in SYSTEMS.items() if of == family and name not in pages and f"`{name}`" in markdown
    ]
    parts = ["\n\n## All recipes and records\n"]
    parts += [*_recipes(systems), *_records(systems), "\n## API\n"]
    for system in systems:
        module_name, name = SYSTEMS[system][1].split(":")
        builder = getattr(import_module(module_name), name)
        shown = builder if inspect.isclass(builder) or inspect.isfunction(builder) else None
        if shown is not None:
            parts.append(
                f"\n::: {shown.__module__}.{shown.__name__}\n    options: {{members: false, heading_level: 3}}\n"
            )
    return "\n".join(parts)


def _recipes(systems: list[str]) -> list[str]:
    rows = []
    for path in sorted((ROOT / "recipes").glob("*.yaml")):
        recipe = yaml.safe_load(path.read_text())
        if recipe["model"]["system"] in systems:
            rows.append(
                f"| `{path.stem}` | `{recipe['data']['name']}` | {recipe.get('description', '').replace('|', '/')} |"
            )
    if not rows:
        return ["No recipe ships."]
    return ["| recipe | data | what |\n|---|---|---|\n" + "\n".join(rows)]


def _records(systems: list[str]) -> list[str]:
    parts = []
    for folder in sorted((ROOT / "records").iterdir()):
        recipe = folder / "recipe.yaml"
        if not recipe.is_file() or yaml.safe_load(recipe.read_text())["model"]["system"] not in systems:
            continue
        for path in sorted(folder.glob("evaluation/*/record.json")):
            parts.append("\n" + record_line(folder.name, json.loads(path.read_text())))
        picture = f"samples-{folder.name}.png"
        if (ROOT / "docs/figures" / picture).is_file():
            alt = f"Sixteen random samples of {folder.name}, seed 0, none chosen"
            parts.append(f"\n![{alt}](../figures/{picture})\n\n{alt}.")
    return parts or ["\nNo run of this system is in `records/`; `codelength train` and `codelength report` make one."]


def record_line(name: str, record: dict[str, Any]) -> str:
    """A record in one sentence."""
    mark = {"exact": "", "bound": "≤ ", "estimate": "≈ "}[record["kind"]]
    samples = "" if record["kind"] == "exact" else f", K = {record['num_samples']}"
    return (
        f"**Record** `records/{name}`: {mark}{record['bits_per_dim']:.3f} ± {record['standard_error_bits_per_dim']:.3f} bits/dim on "
        f"`{record['data']}`, {record['split']} ({record['num_examples']:,} items, {record['kind']}{samples}, weights {record['weights']})."
    )
