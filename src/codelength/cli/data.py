"""`codelength data`: list, describe and fetch data sets."""

from __future__ import annotations

import json
import sys
from typing import Any

import click


@click.group()
def command() -> None:
    """List, describe and fetch data sets."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(as_json: bool) -> None:
    """List the data sets, whether they are here, and their licences."""
    from codelength.data.official import is_here
    from codelength.data.registry import ENTRIES

    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "shape": list(entry.shape),
            "levels": entry.levels,
            "sizes": list(entry.sizes),
            "here": entry.folder is None or is_here(entry.folder),
            "licence": entry.licence,
        }
        for name, entry in sorted(ENTRIES.items())
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    cells = [["NAME", "SPACE", "LEVELS", "TRAIN/VALIDATION/TEST", "HERE", "LICENCE"]]
    for row in rows:
        shape, sizes = "x".join(map(str, row["shape"])), "/".join(map(str, row["sizes"]))
        here = "yes" if row["here"] else "no"
        cells.append([row["name"], shape, str(row["levels"]), sizes, here, row["licence"]])
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    for line in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    click.echo("hint: own data: give the path of a folder of images or texts, a .npy, .npz or .txt file", err=True)


@command.command("info")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info_command(name: str, as_json: bool) -> None:
    """Describe the data set NAME: counts, levels, fingerprints, duplicates.

    NAME is a data set's name or a path; options follow it, as in mnist5k-dynamic@seed=3.
    """
    facts = describe(name)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    for key, value in facts.items():
        if isinstance(value, dict):
            for inner, number in value.items():
                text = ", ".join(f"{k} {v}" for k, v in number.items()) if isinstance(number, dict) else number
                click.echo(f"{key}.{inner}: {text}")
        else:
            click.echo(f"{key}: {value}")


def describe(name: str) -> dict[str, Any]:
    """What `data info` tells of a data set."""
    from codelength.data import load_data
    from codelength.data.fingerprints import FINGERPRINTS
    from codelength.data.splitting import count_duplicates
    from codelength.data.text import disjoint

    data = disjoint(load_data(name))
    known = FINGERPRINTS.get(data.name, {})
    splits = {}
    for split_name, split in data.splits.items():
        fingerprint = split.fingerprint()
        if split_name in known and known[split_name] != fingerprint:
            click.echo(
                f"hint: {data.name} {split_name} differs from the published fingerprint {known[split_name]}: another "
                "version of a package decodes or holds it otherwise",
                err=True,
            )
        splits[split_name] = {
            "examples": len(split),
            "clusters": None if split.clusters is None else len(set(split.clusters.tolist())),
            **_text_facts(data, split_name),
            "sha256": fingerprint,
            "as_published": known[split_name] == fingerprint if split_name in known else None,
        }
    return {
        "name": data.name,
        "shape": list(data.space.shape),
        "dims": data.space.num_dims,
        "levels": data.space.levels,
        "binarization": data.space.binarization,
        "conditions": data.space.conditions,
        "licence": data.licence,
        "source": data.source,
        "splits": splits,
        "duplicates": count_duplicates({n: s.x for n, s in data.splits.items()}),
    }


def _text_facts(data: Any, split: str) -> dict[str, Any]:
    """Of text: bytes, tokens and documents of the split; its examples are disjoint windows."""
    if split not in data.texts:
        return {}
    text = data.texts[split]
    return {"bytes": len(text.content), "tokens": len(text.tokens), "documents": int(text.documents[-1]) + 1}


@command.command("fetch")
@click.argument("name")
@click.option("--url", help="Folder of a mirror, in place of the official addresses.")
def fetch_command(name: str, url: str | None) -> None:
    """Fetch the official files of the data set NAME into the cache."""
    from codelength.data.fetch import fetch_data

    folder = fetch_data(name, url)
    print(f"checked: all files of {name}", file=sys.stderr)
    click.echo(str(folder))
