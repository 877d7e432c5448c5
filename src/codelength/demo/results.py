"""What the demo found: rows for results.json and for the terminal, all from records."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codelength.coding.baselines import CodecResult
from codelength.evaluation.provenance import git_commit, library_versions
from codelength.report.collect import Group, Measured, coding_path
from codelength.report.figures import signed
from codelength.report.tables import best_codec, kind_of, pixel_likelihood_of, with_error

HEADINGS = (
    "model",
    "family",
    "pixel likelihood",
    "kind",
    "bits/dim ± s.e.",
    "train − test",
    "coded bits/dim",
    "bytes",
    "against best codec",
)


def make_row(group: Group, m: Measured, codecs: Sequence[CodecResult], out: Path) -> dict[str, Any]:
    """Everything about one model on one data set; paths are relative to `out`."""
    record, run, best = m.record, m.subject.run, best_codec(codecs)
    end: dict[str, Any] = next((line for line in reversed(run.metrics()) if line["split"] == "end"), {})
    coded = coding_path(run, record.data, record.split)
    size = record.coded_total_bytes
    return {
        "data": record.data,
        "split": record.split,
        "rank": group.measured.index(m) + 1,
        "model": run.recipe.model.system,
        "family": record.family,
        "pixel_likelihood": pixel_likelihood_of(group, m.subject),
        "kind": record.kind,
        "num_samples": record.num_samples,
        "converged": record.converged,
        "bits_per_dim": record.bits_per_dim,
        "standard_error_bits_per_dim": record.standard_error_bits_per_dim,
        "train_minus_test_bits_per_dim": record.train_minus_test_bits_per_dim,
        "train_minus_test_standard_error": record.train_minus_test_standard_error,
        "above_best_bits_per_dim": None if m.difference is None else m.difference.mean,
        "above_best_interval": None if m.difference is None else _finite(m.difference.low, m.difference.high),
        "coded_bits_per_dim": record.coded_bits_per_dim,
        "coded_total_bytes": size,
        "best_codec": None if best is None else best.name,
        "coded_against_best_codec": None
        if size is None or best is None or not best.total_bytes
        else size / best.total_bytes,
        "parameters": end.get("parameters"),
        "steps": run.recipe.training.steps,
        "training_seconds": end.get("seconds"),
        "training_cpu_seconds": end.get("cpu_seconds"),
        "peak_memory_mib": end.get("peak_memory_mib"),
        "data_sha256": record.data_sha256,
        "model_sha256": record.model_sha256,
        "recipe": run.recipe.name,
        "run": _relative(run.path, out),
        "record": _relative(run.path / "evaluation" / record.folder_name() / "record.json", out),
        "coding": _relative(coded, out) if coded.is_file() else None,
    }


def _finite(*values: float) -> list[float] | None:
    return list(values) if all(value == value for value in values) else None


def _relative(path: Path, out: Path) -> str:
    return os.path.relpath(path, out)


def make_results(
    groups: Sequence[Group], codecs: Mapping[str, Sequence[CodecResult]], out: Path, **fields: Any
) -> dict[str, Any]:
    """The content of results.json."""
    return {
        "rows": [make_row(group, m, codecs[group.key], out) for group in groups for m in group.measured],
        "codecs": {key: [codec.to_json() for codec in found] for key, found in codecs.items()},
        "machine": machine(),
        "library_versions": library_versions(),
        "commit": git_commit(),
        **fields,
    }


def machine() -> dict[str, Any]:
    """What this ran on."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def terminal_tables(
    groups: Sequence[Group], codecs: Mapping[str, Sequence[CodecResult]], width: int | None = None
) -> str:
    """One table a data set: the models by rank, then the classical codecs."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=width or 150, no_color=True)
    with console.capture() as capture:
        for group in groups:
            found = codecs[group.key]
            title = f"{group.data}, {group.split}: {group.measured[0].record.num_examples} images"
            table = Table(title=title, box=box.SIMPLE, title_justify="left")
            for i, heading in enumerate(HEADINGS):
                table.add_column(Text(heading), justify="right" if i > 3 else "left")
            for m in group.measured:
                table.add_row(*map(Text, _terminal_row(group, m, found)))
            table.add_section()
            for codec in sorted(found, key=lambda codec: codec.total_bytes or 0):
                table.add_row(*map(Text, _codec_row(codec, found)))
            console.print(table)
    notes = "≤: an upper bound, the model's own code is at most that long. †: more samples K would tighten it."
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + f"\n{notes}\n"


def _terminal_row(group: Group, m: Measured, codecs: Sequence[CodecResult]) -> list[str]:
    record, best = m.record, best_codec(codecs)
    gap, coded, size = record.train_minus_test_bits_per_dim, record.coded_bits_per_dim, record.coded_total_bytes
    return [
        m.subject.run.recipe.model.system,
        record.family,
        pixel_likelihood_of(group, m.subject),
        kind_of(record),
        with_error(record, m.mark),
        "" if gap is None else signed(gap),
        "" if coded is None else f"{coded:.3f}",
        "" if size is None else f"{size:,}",
        "" if size is None else _against(size, best),
    ]


def _codec_row(codec: CodecResult, codecs: Sequence[CodecResult]) -> list[str]:
    size, rate = codec.total_bytes, codec.bits_per_dim
    numbers = ["", ""] if size is None or rate is None else [f"{rate:.3f}", f"{size:,}"]
    return [
        codec.name,
        "codec",
        "",
        codec.scope,
        "",
        "",
        *numbers,
        "" if size is None else _against(size, best_codec(codecs)),
    ]


def _against(size: int, best: CodecResult | None) -> str:
    if best is None or not best.total_bytes:
        return ""
    return (
        "best codec" if size == best.total_bytes else f"{100 * (size / best.total_bytes - 1):+.1f} %".replace("-", "−")
    )


def write_codecs(path: Path, data_sha256: str, codecs: Sequence[CodecResult]) -> None:
    """Keep what classical codecs need."""
    from codelength.run import write_atomically

    fields = {"data_sha256": data_sha256, "codecs": [codec.to_json() for codec in codecs]}
    write_atomically(path, json.dumps(fields, indent=1).encode())


def read_codecs(path: Path, data_sha256: str) -> list[CodecResult] | None:
    """What `write_codecs` kept of the same data; None if there is nothing."""
    if not path.is_file():
        return None
    fields = json.loads(path.read_text())
    return [CodecResult(**codec) for codec in fields["codecs"]] if fields["data_sha256"] == data_sha256 else None
