"""The demo from its first line to its report."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from codelength.coding.baselines import CodecResult
from codelength.data import load_data
from codelength.data.dataset import DataSet
from codelength.demo.plan import DATA, FAST, SYSTEMS, Part, make_parts
from codelength.demo.pool import run_parts
from codelength.demo.results import make_results, read_codecs, terminal_tables, write_codecs
from codelength.demo.work import SPLIT
from codelength.report.codecs import codecs_on
from codelength.report.collect import collect
from codelength.report.write import write_groups
from codelength.run import load_run, write_atomically
from codelength.units import bits_per_dim

Say = Callable[[str], None]
JOBS = 2

LEAD = (
    "Five models of four families, trained for minutes on one machine, measured on one protocol, and where they are exact, "
    "proved by compressing the test images and decoding them again in a fresh process. A code length −log2 P(x) is given in "
    "bits per dim: bits for each number of an image. Lower is better. Longer training gives better models; this page says "
    "what these runs reached."
)


def run_demo(
    out: Path,
    say: Say,
    *,
    data: Sequence[str] = DATA,
    systems: Sequence[str] = tuple(SYSTEMS),
    overrides: dict[str, Any] | None = None,
    fast: bool = False,
    jobs: int = JOBS,
) -> str:
    """Train, measure, compress, compare, report. What an earlier call finished in `out` is not done again.

    Args:
        out: Folder of the runs, report.html and results.json.
        say: Gets one line for each thing that happens.
        data: Data sets.
        systems: Models.
        overrides: Keys of all recipes that are changed.
        fast: A tiny variant that shows that it runs; its numbers mean nothing.
        jobs: Parts at a time.

    Returns:
        The tables for the terminal.

    Raises:
        UsageError: Unknown data set, system or key, or `out` holds the runs of another variant.
        PartError: A part failed; what is finished is kept.
    """
    start = time.perf_counter()
    parts = make_parts(out, data, systems, {**(FAST if fast else {}), **(overrides or {})})
    say(
        f"{len(systems)} models on {len(data)} data sets, {jobs} at a time; all goes to {out}. If it is stopped, the same "
        "command goes on from there"
    )
    codecs: dict[str, list[CodecResult]] = {}
    for name in data:
        part = next(part for part in parts if part.data == name)
        recipe = part.load_recipe()
        loaded = load_data(recipe.data.name, **recipe.data.options)
        codecs[f"{loaded.name}-{SPLIT}"] = introduce(loaded, out, say)
    run_parts(parts, jobs, say)
    return finish(parts, codecs, out, say, start=start, fast=fast)


def introduce(data: DataSet, out: Path, say: Say) -> list[CodecResult]:
    """Say what the data are and what simple means need for them; returns the classical codecs."""
    counts = "/".join(f"{len(split):,}" for split in data.splits.values())
    shape, levels = " x ".join(map(str, data.space.sizes)), data.space.levels
    uniform = bits_per_dim(data.space.uniform_nats, data.space.num_dims)
    say(f"{data.name}: {counts} images of {shape}, {levels} levels. A uniform model costs {uniform:.3f} bits/dim")
    sha256 = data.split(SPLIT).fingerprint()
    path = out / f"codecs-{data.name}-{SPLIT}.json"
    codecs = read_codecs(path, sha256)
    if codecs is None:
        codecs = codecs_on(data, SPLIT)
        write_codecs(path, sha256, codecs)
    sizes = ", ".join(f"{codec.name} {codec.bits_per_dim:.3f}" for codec in codecs if codec.bits_per_dim is not None)
    say(f"{data.name}: what models have to beat on the {SPLIT} images, in bits/dim: {sizes}")
    return codecs


def finish(
    parts: Sequence[Part], codecs: dict[str, list[CodecResult]], out: Path, say: Say, *, start: float, fast: bool
) -> str:
    """Write results.json and report.html; returns the tables."""
    groups = [
        group
        for group in collect([load_run(part.folder) for part in parts])
        if group.split == SPLIT and group.key in codecs
    ]
    results = make_results(groups, codecs, out, fast=fast)
    say("drawing samples and maps for the report")
    machine = results["machine"]
    footer = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB; one thread a training.",
        "Remade by: codelength demo" + (" --fast (a trial of the machinery: its numbers mean nothing)" if fast else ""),
    ]
    title = "codelength demo" + (" (trial run)" if fast else "")
    report = write_groups(groups, out / "report.html", codecs=codecs, title=title, lead=LEAD, footer=footer)
    results["seconds"] = round(time.perf_counter() - start, 1)
    write_atomically(out / "results.json", json.dumps(results, indent=1, allow_nan=False).encode())
    say(
        f"done in {results['seconds']:.0f} s: look at {report}; numbers with their records are in {out / 'results.json'}"
    )
    return terminal_tables(groups, codecs)
