"""A comparison as a table: terminal, Markdown, LaTeX, JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from codelength.errors import unknown_name
from codelength.evaluation.compare import Comparison, Entry, Pair
from codelength.evaluation.record import EvaluationRecord

MAX_PAIRS = 10
"""More pairs than these are not all printed, only those with the best model; JSON has all."""


@dataclass(frozen=True)
class Table:
    """Plain cells; what follows numbers is right-aligned.

    Args:
        title: What the table shows.
        header: Names of the columns.
        rows: One list of cells a row.
        numeric: Whether each column is right-aligned.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    numeric: list[bool]


def render(comparison: Comparison, format: str) -> str:
    """The comparison as text.

    Args:
        comparison: What `compare` returned.
        format: "terminal", "markdown", "latex" or "json".

    Raises:
        UsageError: Another format.
    """
    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    return FORMATS[format](comparison)


def value_text(record: EvaluationRecord, mark: str = "") -> str:
    """Mark, value and standard error in bits/dim, such as `<= 1.2345 ± 0.0021`, with † where it has not converged."""
    error = record.standard_error_bits_per_dim
    text = f"{mark} {record.bits_per_dim:.4f}".strip() + ("" if error is None else f" ± {error:.4f}")
    return text if record.converged else text + " †"


def kind_text(record: EvaluationRecord) -> str:
    """What the number is: `exact`, or `bound, K = 1000`."""
    return record.kind if record.kind == "exact" else f"{record.kind}, K = {record.num_samples}"


def tables(comparison: Comparison) -> tuple[list[Table], list[str]]:
    """Ranking, pairs, and the lines below them."""
    first = comparison.entries[0].record
    ranking = Table(
        f"{first.data}, {first.split}: {first.num_examples} data of {first.num_dims} dims, bits/dim ± s.e.",
        ["rank", "model", "family", "kind", "bits/dim", "coded", "notes"],
        [_ranking_row(entry) for entry in comparison.entries],
        [True, False, False, False, True, True, False],
    )
    found = [ranking]
    shown = comparison.pairs
    lines = []
    if len(shown) > MAX_PAIRS:
        shown = [pair for pair in shown if pair.better == comparison.entries[0].name]
        lines.append(f"{len(comparison.pairs)} pairs compared, those with the best shown; JSON has all.")
    if shown:
        percent = f"{100 * comparison.confidence:g}%"
        header = ["switch from", "to", "saves bits/dim", percent, f"{percent} bootstrap", "bytes", "wins", "p (Holm)"]
        rows = [_pair_row(pair) for pair in shown]
        found.append(Table("Paired differences", [*header, "verdict"], rows, [False] * 2 + [True] * 6 + [False]))
        lines.append(f"{shown[0].sentence()} ({percent}), {shown[0].saving_bytes:,.0f} bytes on all the data.")
    if any(entry.mark == "<=" for entry in comparison.entries):
        lines.append("<= is an upper bound: the model's own code length can be lower.")
    if not all(entry.record.converged for entry in comparison.entries):
        lines.append("† not converged: more samples K would tighten it.")
    return found, lines


def _ranking_row(entry: Entry) -> list[str]:
    record = entry.record
    coded = "" if record.coded_bits_per_dim is None else f"{record.coded_bits_per_dim:.4f}"
    return [
        str(entry.rank),
        entry.name,
        record.family,
        kind_text(record),
        value_text(record, entry.mark),
        coded,
        "; ".join(entry.notes),
    ]


def _pair_row(pair: Pair) -> list[str]:
    return [
        pair.worse,
        pair.better,
        f"{pair.saving_bits_per_dim:.4f}",
        _interval(pair.normal_interval),
        _interval(pair.bootstrap_interval),
        f"{pair.saving_bytes:,.0f}",
        f"{100 * pair.win_rate:.1f}%",
        _p_text(pair.p_corrected),
        pair.verdict,
    ]


def _interval(ends: tuple[float, float]) -> str:
    return "" if any(math.isnan(end) for end in ends) else f"[{ends[0]:.4f}, {ends[1]:.4f}]"


def _p_text(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}"


def _terminal(comparison: Comparison) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    found, lines = tables(comparison)
    console = Console(width=160, no_color=True)
    with console.capture() as capture:
        for table in found:
            rich_table = RichTable(title=table.title, box=box.SIMPLE, title_justify="left")
            for name, numeric in zip(table.header, table.numeric, strict=True):
                rich_table.add_column(Text(name), justify="right" if numeric else "left")
            for row in table.rows:
                rich_table.add_row(*(Text(cell) for cell in row))
            console.print(rich_table)
    return "\n".join([*(line.rstrip() for line in capture.get().splitlines()), *lines]) + "\n"


def _markdown(comparison: Comparison) -> str:
    found, lines = tables(comparison)
    parts = []
    for table in found:
        rule = ["---:" if numeric else "---" for numeric in table.numeric]
        rows = [table.header, rule, *([cell.replace("|", "\\|") for cell in row] for row in table.rows)]
        parts.append(f"**{table.title}**\n\n" + "\n".join("| " + " | ".join(row) + " |" for row in rows))
    return "\n\n".join([*parts, *lines]) + "\n"


LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "†": r"$^\dagger$",
    "<": r"$<$",
}


def _latex_text(text: str) -> str:
    """Escape what LaTeX would read as a command.

    >>> _latex_text("a_b <= 50%")
    'a\\\\_b $\\\\leq$ 50\\\\%'
    """
    return "".join(LATEX.get(c, c) for c in text).replace("$<$=", r"$\leq$")


def _latex(comparison: Comparison) -> str:
    found, lines = tables(comparison)
    parts = []
    for table in found:
        columns = "".join("r" if numeric else "l" for numeric in table.numeric)
        rows = [" & ".join(map(_latex_text, row)) + r" \\" for row in [table.header, *table.rows]]
        body = [rf"\begin{{tabular}}{{{columns}}}", r"\hline", rows[0], r"\hline", *rows[1:], r"\hline"]
        parts.append("\n".join([f"% {table.title}", *body, r"\end{tabular}"]))
    return "\n\n".join([*parts, *("% " + line for line in lines)]) + "\n"


def _json(comparison: Comparison) -> str:
    return json.dumps(comparison.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


FORMATS: dict[str, Callable[[Comparison], str]] = {
    "terminal": _terminal,
    "markdown": _markdown,
    "latex": _latex,
    "json": _json,
}


def record_table(records: Sequence[EvaluationRecord]) -> str:
    """A short table of records for the terminal: one line each field that matters."""
    lines = []
    for record in records:
        mark = {"exact": "", "bound": "<=", "estimate": "~"}[record.kind]
        lines += [
            f"{record.model} on {record.data} {record.split}: {value_text(record, mark)} bits/dim",
            f"  kind          {kind_text(record)}" + (f", {record.dequantizer} noise" if record.dequantizer else ""),
            f"  nats a datum  {record.nats_per_example:.4f}, {record.num_examples} data of {record.num_dims} dims",
        ]
        if record.elbo_bits_per_dim is not None and record.num_samples > 1:
            lines.append(f"  at K = 1      <= {record.elbo_bits_per_dim:.4f} bits/dim")
        if record.ess_median is not None:
            k_hat = "" if record.k_hat_max is None else f", largest Pareto k-hat {record.k_hat_max:.2f}"
            lines.append(f"  weights       effective samples: median {record.ess_median:.1f}{k_hat}")
        for name, bound in record.dequantizer_bounds.items() if len(record.dequantizer_bounds) > 1 else ():
            lines.append(f"  {name:<13} <= {bound.bits_per_dim:.4f} bits/dim")
        if record.train_minus_test_bits_per_dim is not None:
            lines.append(f"  train - {record.split:<5} {record.train_minus_test_bits_per_dim:+.4f} bits/dim")
        if not record.converged:
            lines.append("  † not converged: more samples K would tighten it (--samples)")
    return "\n".join(lines) + "\n"


def text_lines(record: EvaluationRecord) -> str:
    """What a record of text says beside bits a token: totals, bits/byte, perplexities, and how they were taken."""
    words = "none" if record.perplexity_per_word is None else f"{record.perplexity_per_word:.4g}"
    bytes_ = "none" if record.perplexity_per_byte is None else f"{record.perplexity_per_byte:.4g}"
    return "\n".join(
        [
            f"total      {record.total_nats:,.1f} nats: {record.tokens:,} tokens, {record.words:,} words, {record.bytes:,} bytes, "
            f"{record.documents:,} documents",
            f"bits/byte  {'none' if record.bits_per_byte is None else format(record.bits_per_byte, '.4f')}",
            f"perplexity {record.perplexity_per_token:.4g} a token, {words} a word, {bytes_} a byte",
            f"windows    context {record.context}, stride {record.stride}, at least {record.min_context} tokens after the first, "
            f"{'with' if record.bos else 'without'} a start token",
        ]
    )
