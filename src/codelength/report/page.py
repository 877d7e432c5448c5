"""A page is a list of sections, a section a list of blocks; the template knows how each kind of block is drawn.

The page is one file: style, script, charts and pictures are inside, and it loads nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from codelength.run import write_atomically


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Args:
        text: What it shows.
        sort: What it is sorted by: a number or a text; the text itself without it. None sorts last.
        link: Anchor of this page it leads to, such as "record-3".
    """

    text: str
    sort: float | str | None = ""
    link: str = ""

    @property
    def key(self) -> str:
        """What the page's script sorts by."""
        value = self.text if self.sort == "" else self.sort
        return "" if value is None else str(value)


@dataclass(frozen=True)
class Column:
    """A column: its heading, what the heading means, and whether it holds numbers."""

    heading: str
    meaning: str = ""
    numeric: bool = False


@dataclass(frozen=True)
class Table:
    """A table that sorts and filters."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    kind: str = "table"


@dataclass(frozen=True)
class Figure:
    """A chart: an SVG element made by `svg.Drawing`, with the colours of its series."""

    svg: str
    caption: str
    legend: Sequence[tuple[str, str]] = ()
    kind: str = "figure"


@dataclass(frozen=True)
class Picture:
    """A picture, with its text alternative."""

    uri: str
    alt: str
    label: str = ""
    width: int = 0


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side."""

    caption: str
    pictures: Sequence[Picture]
    legend_svg: str = ""
    kind: str = "gallery"


@dataclass(frozen=True)
class Passage:
    """Text whose tokens are coloured by cost: (text, step of the colour, bits), and what the steps mean."""

    caption: str
    tokens: Sequence[tuple[str, int, str]]
    steps: Sequence[str]
    kind: str = "passage"


@dataclass(frozen=True)
class Note:
    """A paragraph."""

    text: str
    kind: str = "note"


@dataclass(frozen=True)
class Record:
    """A full record, one click away."""

    anchor: str
    summary: str
    fields: Sequence[tuple[str, str, str]]
    kind: str = "record"


Block = Table | Figure | Gallery | Passage | Note | Record


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading."""

    anchor: str
    heading: str
    blocks: Sequence[Block]
    level: int = 2


@dataclass(frozen=True)
class Page:
    """The page."""

    title: str
    lead: str
    sections: Sequence[Section]
    footer: Sequence[str] = field(default_factory=tuple)


def record_fields(record: dict[str, Any], meanings: dict[str, str]) -> list[tuple[str, str, str]]:
    """(name, value, meaning) of the fields of a record that are set."""
    fields = []
    for name, value in record.items():
        if value is None or value in ({}, []):
            continue
        text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | bool) else str(value)
        fields.append((name, text, meanings.get(name, "")))
    return fields


def render(page: Page) -> str:
    """The page as HTML. Everything but our own style, script and SVG is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("codelength.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    folder = resources.files("codelength.report") / "templates"
    style, script = (folder / "report.css").read_text("utf-8"), (folder / "report.js").read_text("utf-8")
    return environment.get_template("report.html.j2").render(page=page, style=style, script=script)


def write_page(page: Page, path: str | Path) -> Path:
    """Render the page into a file; returns its path."""
    path = Path(path)
    write_atomically(path, render(page).encode())
    return path
