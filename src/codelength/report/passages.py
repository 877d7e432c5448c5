"""Where the bits go in text: a passage of the split with every token coloured by what it costs."""

from __future__ import annotations

import numpy as np

from codelength.data.dataset import DataSet
from codelength.data.text import Text
from codelength.randomness import derive_seed
from codelength.report.collect import Group, Measured
from codelength.report.page import Block, Cell, Column, Passage, Table
from codelength.units import bits

SHOWN = 500  # tokens of a passage
STEPS = (1, 2, 4, 6, 9)  # bits at which the colour changes
COSTLIEST = 8


def text_of_split(dataset: DataSet, split: str) -> Text | None:
    """The text of a split; None where the data are no text."""
    return dataset.texts.get(split)


def passages(group: Group) -> list[Block]:
    """A random passage under every run, and the tokens in it that cost the best run most; empty for other data."""
    text = None if group.dataset is None else text_of_split(group.dataset, group.split)
    if text is None:
        return []
    count = len(text.tokens)
    generator = np.random.default_rng(derive_seed("report", "passage", group.data, group.split))
    start = int(generator.integers(0, max(count - SHOWN, 0) + 1))
    place = slice(start, min(start + SHOWN, count))
    words = token_texts(text, place)
    shown = [m for m in group.measured if len(m.evaluation.per_example) == count]
    blocks: list[Block] = [_passage(group, m, words, place) for m in shown]
    return blocks + ([_costliest(group, shown[0], words, place)] if shown else [])


def token_texts(text: Text, place: slice) -> list[str]:
    """What the tokens at `place` stand for: bytes that are no UTF-8 alone are spelled out, an end of text is ¶."""
    ends = np.cumsum(text.byte_lengths)
    found = []
    for i in range(place.start, place.stop):
        content = text.content[ends[i] - text.byte_lengths[i] : ends[i]]
        found.append(content.decode("utf-8", "backslashreplace") if len(content) else "¶")
    return found


def _passage(group: Group, m: Measured, words: list[str], place: slice) -> Passage:
    costs = bits(m.evaluation.per_example[place])
    levels = np.searchsorted(STEPS, costs, side="right")
    tokens = [(word, int(level), f"{cost:.2f}") for word, level, cost in zip(words, levels, costs, strict=True)]
    mean = float(costs.mean())
    caption = (
        f"{m.subject.name}: bits of each token given those before it, {mean:.3f} on average, tokens {place.start:,} to {place.stop:,} of the "
        f"{group.split} text, a place drawn at random."
    )
    return Passage(caption, tokens, [_range(i) for i in range(len(STEPS) + 1)])


def _range(level: int) -> str:
    if level == 0:
        return f"under {STEPS[0]} bit"
    return f"{STEPS[level - 1]} bits or more" if level == len(STEPS) else f"{STEPS[level - 1]} to {STEPS[level]}"


def _costliest(group: Group, m: Measured, words: list[str], place: slice) -> Table:
    costs = bits(m.evaluation.per_example[place])
    order = np.argsort(-costs, kind="stable")[:COSTLIEST]
    columns = [
        Column("place", "token of the split", True),
        Column("before it"),
        Column("token"),
        Column("bits", "", True),
    ]
    rows = [
        [
            Cell(f"{place.start + i:,}", place.start + int(i)),
            Cell(_visible("".join(words[max(0, i - 12) : i]))),
            Cell(_visible(words[i])),
            Cell(f"{costs[i]:.2f}", float(costs[i])),
        ]
        for i in order
    ]
    return Table(
        f"{group.data}, {group.split}: the costliest tokens of the passage for {m.subject.name}", columns, rows
    )


def _visible(text: str) -> str:
    return text.replace("\n", "↵").replace(" ", "␣")
