"""Check README and docs: links lead somewhere, commands and options exist, recipes ship.

`python scripts/check_documents.py` checks the text; with `--run` the Python of the README and of the guide is run too.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)


def documents(root: Path) -> list[Path]:
    """The pages we author."""
    return [*sorted(root.glob("*.md")), *sorted((root / "docs").rglob("*.md"))]


def anchors(text: str) -> set[str]:
    """Anchors of a page's headings, as code hosts make them."""
    headings = (re.sub(r"[`*]", "", heading).strip().lower() for heading in HEADING.findall(BLOCK.sub("", text)))
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}


def check_links(root: Path, page: Path, text: str) -> Iterator[str]:
    """Links to files or headings that are not there. Links to the web are not followed."""
    for target in LINK.findall(BLOCK.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists():
            yield f"link to {target}: no such file"
        elif page.parent != root and not file.is_relative_to(root / "docs"):
            yield f"link to {target}: it leaves docs/, and the site with it; name the file instead"
        elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text()):
            yield f"link to {target}: no such heading"


def shell_lines(text: str) -> Iterator[str]:
    """Lines of shell blocks, continued lines joined, comments left out."""
    for language, block in BLOCK.findall(text):
        if language in ("sh", "bash", "console", "shell"):
            for line in block.replace("\\\n", " ").splitlines():
                line = line.removeprefix("$ ").strip()
                if line and not line.startswith("#"):
                    yield line


def check_command(line: str, targets: set[str]) -> Iterator[str]:
    """Commands, options, recipes and make targets that do not exist."""
    words = shlex.split(line, comments=True)
    if words[:1] == ["make"]:
        yield from (f"`{line}`: no make target {word}" for word in words[1:] if "=" not in word and word not in targets)
    if words[:1] != ["codelength"]:
        return
    from codelength.cli.main import COMMANDS, codelength
    from codelength.recipe import shipped_recipes

    name = next((word for word in words[1:] if not word.startswith("-")), None)
    if name is None:
        return
    if name not in COMMANDS:
        yield f"`{line}`: no command {name}"
        return
    command = codelength.get_command(click.Context(codelength), name)
    assert command is not None
    if isinstance(command, click.Group):
        return
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in words[words.index(name) + 1 :]:
        option = word.partition("=")[0]
        if re.match(r"-[-a-zA-Z]", word) and option not in known | {"--help", "-h"}:
            yield f"`{line}`: {name} has no option {option}"
    recipe = words[words.index(name) + 1] if name == "train" and len(words) > words.index(name) + 1 else "--"
    if (
        re.fullmatch(r"[\w-]+", recipe)
        and not recipe.startswith("-")
        and not recipe.isupper()
        and recipe not in shipped_recipes()
    ):
        yield f"`{line}`: no recipe {recipe} ships"


def run_python(page: Path, text: str) -> Iterator[str]:
    """Python blocks that fail, run one after the other in an empty folder."""
    code = "\n".join(block for language, block in BLOCK.findall(text) if language == "python")
    if not code:
        return
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONWARNINGS": "error"}
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        yield f"its Python fails: {done.stderr.strip().splitlines()[-1]}"


def main(arguments: list[str], root: Path) -> int:
    """Print what is wrong; 0 if nothing is."""
    targets = set(re.findall(r"^([\w-]+):", (root / "Makefile").read_text(), re.MULTILINE))
    pages, wrong = documents(root), 0
    for page in pages:
        text = page.read_text()
        problems = [*check_links(root, page, text)]
        problems += [problem for line in shell_lines(text) for problem in check_command(line, targets)]
        if "--run" in arguments and (page.name == "README.md" or page.parent.name == "guide"):
            problems += run_python(page, text)
        for problem in problems:
            print(f"{page.relative_to(root)}: {problem}", file=sys.stderr)
        wrong += len(problems)
    print(f"{len(pages)} documents, {wrong} problems")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path(__file__).resolve().parents[1]))
