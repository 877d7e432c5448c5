"""Tables of a report: the ranking, coded files, classical codecs. Every number comes from a record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from codelength.coding.baselines import CodecResult
from codelength.evaluation import EvaluationRecord
from codelength.report.collect import Group, Measured, Subject, read_coding
from codelength.report.figures import describe_difference, signed
from codelength.report.page import Cell, Column, Table
from codelength.report.pictures import channel_costs
from codelength.units import bits_per_dim

NONE = Cell("–", None)


def with_error(record: EvaluationRecord, mark: str = "") -> str:
    """A code length with its standard error and its mark: "≤ 1.234 ± 0.012", and † where it has not converged."""
    error = record.standard_error_bits_per_dim
    text = f"{record.bits_per_dim:.3f}" + ("" if error is None else f" ± {error:.3f}")
    return f"{mark} {text}".strip() + ("" if record.converged else " †")


def kind_of(record: EvaluationRecord) -> str:
    """What a number is: `exact`, `bound, K = 64`, or `bound, label charged`."""
    if record.kind == "exact":
        return "exact"
    if record.conditions_charged and record.num_samples == 1:
        return f"{record.kind}, {', '.join(record.conditions_charged)} charged"
    return f"{record.kind}, K = {record.num_samples}"


def pixel_likelihood_of(group: Group, subject: Subject) -> str:
    """How the run's model gives a pixel its probability, in words."""
    model: Any = group.model(subject)
    likelihood = getattr(model, "likelihood", None)
    if likelihood is not None and hasattr(likelihood, "name"):
        return str(likelihood.name).replace("_", " ")
    dequantizers = {m.record.dequantizer for m in group.measured if m.subject is subject}
    used = next(iter(dequantizers - {None}), None)
    if used is not None:
        return f"density, dequantizer {used}"
    return subject.run.recipe.model.options.get("pixels", "of its own")


def best_codec(codecs: Sequence[CodecResult]) -> CodecResult | None:
    """The classical codec with the fewest bytes, of those that can hold the data."""
    able = [codec for codec in codecs if codec.total_bytes is not None]
    return min(able, key=lambda codec: codec.total_bytes or 0, default=None)


def versus(coded: int | None, codec: CodecResult | None) -> Cell:
    """Size of a coded file against the best classical codec's, in percent."""
    if coded is None or codec is None or not codec.total_bytes:
        return NONE
    ratio = coded / codec.total_bytes
    return Cell(f"{100 * (ratio - 1):+.1f} %".replace("-", "−"), ratio)


def ranking(group: Group, codecs: Sequence[CodecResult] = ()) -> Table:
    """All runs, shortest code first."""
    best = best_codec(codecs)
    columns = [
        Column("rank", "1 is the shortest code", True),
        Column("model", "the run; leads to its full record"),
        Column("bits/dim ± s.e.", "code length per number; lower is better", True),
        Column("kind", "exact, or an upper bound on the code length"),
        Column("above the best (95 %)", "paired difference on the same data", True),
        Column("family"),
        Column("pixel likelihood", "how a pixel gets its probability"),
        Column("train − test", "negative where the model knows its training data better", True),
        Column("coded bits/dim", "size of the file that decodes to the data", True),
        Column("coded bytes", "of the whole split, header included", True),
        Column(f"against {best.name if best else 'best codec'}", "size against the smallest classical codec's", True),
    ]
    rows = [[Cell(str(i), i), *_row(group, m, best)] for i, m in enumerate(group.measured, start=1)]
    note = "≤ marks an upper bound: the true code length of the model is at most that."
    if not all(m.record.converged for m in group.measured):
        note += " † has not converged: more samples K would tighten it."
    return Table(f"{group.data}, {group.split}: the ranking", columns, rows, note)


def _row(group: Group, m: Measured, best: CodecResult | None) -> list[Cell]:
    record = m.record
    gap, error = record.train_minus_test_bits_per_dim, record.train_minus_test_standard_error
    gap_text = "" if gap is None else signed(gap) + ("" if error is None else f" ± {error:.3f}")
    coded, size = record.coded_bits_per_dim, record.coded_total_bytes
    return [
        Cell(m.subject.name, link=m.anchor),
        Cell(with_error(record, m.mark), record.bits_per_dim),
        Cell(kind_of(record)),
        Cell(describe_difference(m), 0.0 if m.difference is None else m.difference.mean),
        Cell(record.family),
        Cell(pixel_likelihood_of(group, m.subject)),
        NONE if gap is None else Cell(gap_text, gap),
        NONE if coded is None else Cell(f"{coded:.3f}", coded),
        NONE if size is None else Cell(f"{size:,}", size),
        versus(size, best),
    ]


def coded_files(group: Group) -> Table | None:
    """Files that were written, decoded and compared; None where there are none."""
    found = [(m, read_coding(m.subject.run, group.data, group.split)) for m in group.measured]
    rows = [_coded_row(m, fields) for m, fields in found if fields is not None]
    if not rows:
        return None
    columns = [
        Column("model"),
        Column("−log2 P, bytes", "what the model's probabilities promise", True),
        Column("file, bytes", "what the file holds, header included", True),
        Column("file over −log2 P", "cost of rounding, header and end of stream", True),
        Column("encode, images/s", "", True),
        Column("decode, images/s", "", True),
        Column("decoded in a fresh process", "every byte compared with the data"),
    ]
    return Table(f"{group.data}, {group.split}: the model's files", columns, rows)


def _coded_row(m: Measured, fields: dict[str, Any]) -> list[Cell]:
    over, count = fields["overhead_ratio"], fields["num_examples"]
    return [
        Cell(m.subject.name, link=m.anchor),
        Cell(f"{fields['model_total_bytes']:,.0f}", fields["model_total_bytes"]),
        Cell(f"{fields['coded_total_bytes']:,}", fields["coded_total_bytes"]),
        Cell(f"{100 * over:+.3f} %".replace("-", "−"), over),
        _speed(count, fields["encode_seconds"]),
        _speed(count, fields["decode_seconds"]),
        Cell("equal, every byte" if fields["verified"] else "DIFFERENT"),
    ]


def _speed(count: int, seconds: float | None) -> Cell:
    return NONE if not seconds else Cell(f"{count / seconds:,.1f}", count / seconds)


def codec_table(group: Group, codecs: Sequence[CodecResult]) -> Table | None:
    """Classical codecs on the same images; None where none was measured."""
    if not codecs:
        return None
    top = group.measured[0]
    columns = [
        Column("codec"),
        Column("scope", "single files added up, or one stream of all images"),
        Column("bits/dim", "all bytes, headers included", True),
        Column("bytes", "of the whole split", True),
        Column("the best run against it", "code length of the best run, in percent of this codec's", True),
        Column("settings"),
        Column("library"),
    ]
    rows = [
        _codec_row(codec, top) for codec in sorted(codecs, key=lambda c: (c.total_bytes is None, c.total_bytes or 0))
    ]
    caption = f"{group.data}, {group.split}: classical codecs, lossless, on the same images"
    return Table(
        caption, columns, rows, f"Every image was decoded again and compared. The best run is {top.subject.name}."
    )


def _codec_row(codec: CodecResult, top: Measured) -> list[Cell]:
    end = [Cell(codec.settings), Cell(codec.version)]
    if codec.total_bytes is None or codec.bits_per_dim is None:
        return [Cell(codec.name), Cell(codec.scope), NONE, NONE, Cell(codec.not_applicable, None), *end]
    ratio = top.record.bits_per_dim / codec.bits_per_dim
    against = f"{top.mark} {100 * (ratio - 1):+.1f} %".replace("-", "−").strip()
    size = Cell(f"{codec.bits_per_dim:.3f}", codec.bits_per_dim), Cell(f"{codec.total_bytes:,}", codec.total_bytes)
    return [Cell(codec.name), Cell(codec.scope), *size, Cell(against, ratio), *end]


def channels(group: Group) -> Table | None:
    """Bits/dim of each channel; None for one channel, or without a run that has conditionals."""
    costs = channel_costs(group)
    if not costs or group.dataset is None:
        return None
    count = len(costs[0][1])
    names = group.dataset.space.channels or tuple(f"channel {c}" for c in range(count))
    columns = [Column("model"), *(Column(name, "bits/dim", True) for name in names[:count])]
    rows = [
        [Cell(m.subject.name, link=m.anchor), *(Cell(f"{value:.3f}", float(value)) for value in per_channel)]
        for m, per_channel in costs
    ]
    note = "Channels are coded in this order, each given the ones before it at its pixel. 64 random items."
    return Table(f"{group.data}, {group.split}: bits/dim of each channel", columns, rows, note)


def raw_bits_per_dim(group: Group) -> float:
    """Bits/dim of a uniform model: log2 of the number of levels."""
    space = group.measured[0].subject.run.space
    return bits_per_dim(space.uniform_nats, space.num_dims)
