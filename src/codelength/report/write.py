"""From runs to a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from codelength import __version__
from codelength.coding.baselines import CodecResult
from codelength.evaluation import EvaluationRecord
from codelength.report.audits import audit_tables
from codelength.report.collect import Group, Subject, collect
from codelength.report.figures import forest, k_curves, training_curves
from codelength.report.latents import latent_tables
from codelength.report.page import Block, Note, Page, Record, Section, record_fields, write_page
from codelength.report.passages import passages
from codelength.report.pictures import bit_maps, drawable, extremes, samples_beside_data
from codelength.report.planes import bit_planes
from codelength.report.tables import (
    best_codec,
    channels,
    codec_table,
    coded_files,
    kind_of,
    ranking,
    raw_bits_per_dim,
    with_error,
)
from codelength.run import Run

Codecs = Mapping[str, Sequence[CodecResult]]

LEAD = (
    "A model's code length −log2 P(x) is what the data cost when they are stored with it. Everything here is measured in bits "
    "per dim: bits for each number of an image. Lower is better; this page is one file and loads nothing."
)


def write_report(
    runs: Sequence[Run],
    path: str | Path,
    *,
    codecs: Codecs | None = None,
    title: str = "codelength report",
    lead: str = LEAD,
    footer: Sequence[str] = (),
    pictures: bool = True,
) -> Path:
    """Write one self-contained HTML file on runs: what they reach, against each other and against classical codecs.

    Args:
        runs: Runs with records.
        path: File to write.
        codecs: "<data>-<split>" -> results of classical codecs on that split.
        title: Heading of the page.
        lead: First paragraph.
        footer: Lines at its end, such as machine and time.
        pictures: Whether to draw samples and maps, which needs the models and the data.

    Returns:
        The path.

    Raises:
        EvaluationError: The runs have no records, or a record is damaged.
    """
    return write_groups(collect(runs), path, codecs=codecs, title=title, lead=lead, footer=footer, pictures=pictures)


def write_groups(
    groups: Sequence[Group],
    path: str | Path,
    *,
    codecs: Codecs | None = None,
    title: str = "codelength report",
    lead: str = LEAD,
    footer: Sequence[str] = (),
    pictures: bool = True,
) -> Path:
    """Write the file on records that are collected already; see `write_report`."""
    sections: list[Section] = []
    for group in groups:
        sections += group_sections(group, (codecs or {}).get(group.key, ()), pictures)
    sections.append(Section("records", "The full records", [Note(RECORDS), *_records(groups)]))
    return write_page(Page(title, lead, sections, (*footer, f"Written by codelength {__version__}.")), path)


RECORDS = "Every number above with everything needed to trust or repeat it: data fingerprint, estimator, seed, weights, versions."


def group_sections(group: Group, codecs: Sequence[CodecResult], pictures: bool) -> list[Section]:
    """The sections on one group of records, those that have something to show."""
    name, subjects = group.anchor, [m.subject for m in group.measured]
    parts: list[tuple[str, str, list[Block | None]]] = [
        ("coded", "Really compressed", [coded_files(group), codec_table(group, codecs)]),
        ("audit", "Audit", list(audit_tables(group, subjects))),
        ("training", "Training", _training(subjects)),
        ("bounds", "Bounds over K", [k_curves(group)]),
    ]
    if pictures and drawable(subjects[0].run.space):
        parts += [
            ("latents", "Latents", list(latent_tables(group))),
            ("samples", "Samples beside data", list(samples_beside_data(group))),
            ("bits", "Where the bits go", [*bit_maps(group), channels(group), bit_planes(group)]),
            ("items", "Easiest and hardest", list(extremes(group))),
        ]
    if pictures:
        parts.append(("tokens", "Where the bits go", list(passages(group))))
    top = [*_introduction(group, codecs), ranking(group, codecs), forest(group)]
    sections = [Section(name, f"{group.data}, {group.split}", [block for block in top if block is not None])]
    for anchor, heading, blocks in parts:
        kept = [block for block in blocks if block is not None]
        if kept:
            sections.append(Section(f"{name}-{anchor}", heading, kept, level=3))
    return sections


def _introduction(group: Group, codecs: Sequence[CodecResult]) -> list[Block]:
    record, best = group.measured[0].record, best_codec(codecs)
    words = (
        f"{record.num_examples:,} items of {record.num_dims:,} numbers with {record.levels} levels. A uniform model costs "
        f"{raw_bits_per_dim(group):.3f} bits/dim"
    )
    words += f"; the best classical codec, {best.name}, {best.bits_per_dim:.3f}. " if best is not None else ". "
    winner = group.measured[0]
    words += f"The best run, {winner.subject.name}, costs {with_error(winner.record, winner.mark)} ({kind_of(winner.record)})."
    blocks: list[Block] = [Note(words)]
    floor = record.memorization_floor_bits
    if floor is not None:
        blocks.append(
            Note(
                f"A model that knew the training data by heart would spend log2 of their number, {floor:.2f} bits on a whole "
                f"training item ({floor / record.num_dims:.4f} bits/dim). Training code lengths near that mean memory, not "
                "knowledge."
            )
        )
    if group.trouble:
        blocks.append(Note(f"Pictures of data are left out: {group.trouble}."))
    return blocks


def _training(subjects: Sequence[Subject]) -> list[Block | None]:
    return [training_curves(subjects, "cpu_seconds"), training_curves(subjects, "examples")]


def _records(groups: Sequence[Group]) -> list[Block]:
    meanings = {name: info.description or "" for name, info in EvaluationRecord.model_fields.items()}
    return [
        Record(
            m.anchor,
            f"{m.subject.name} on {group.data}, {group.split}: {with_error(m.record, m.mark)} bits/dim, {kind_of(m.record)}",
            record_fields(m.record.model_dump(mode="json"), meanings),
        )
        for group in groups
        for m in group.measured
    ]
