"""Memory, time and operations of the Sparse Transformer's attention against T x T scores: JSON into results/.

    python benchmarks/sparse_attention.py
    python benchmarks/sparse_attention.py --kinds strided --lengths 256 3072

A residual block pair (one layer of each of the two patterns; strided, and fixed with summaries of 8) of width 128, 2 heads,
takes one training step (forward and backward) on one sequence of T positions: once as shipped, once with the same masks on
scores that are all computed and kept (`dense_attention`). Both compute the same numbers. T = 256 ... 3,072, stride 128.

    memory      largest resident size of a fresh process minus its size before the step, MiB; "without_attention" is a step
                of the same blocks whose attention hands its values through
    time        CPU-seconds of the process, the median of some steps after one
    operations  of the scores and of the weighted sums, forward: 2 (d + e) a score a head; counted from the shapes of the
                blocks (`Pattern.num_scores`), which a test compares with torch.utils.flop_counter

Memory is that of the process, so one step alone is measured, after a step of a sixteenth of the length that loads code.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codelength.nn.attention import Attention, Block, Stack
from codelength.nn.attention_patterns import LocalBlocks, Pattern, Strided, Summaries, dense_attention

WIDTH, HEADS, STRIDE, SUMMARY, STEPS = 128, 2, 128, 8, 3


@dataclass(frozen=True)
class Dense(Pattern):
    """A pattern with all T x T scores in memory."""

    pattern: Pattern
    tables: dict[int, Tensor]

    def keys(self, i: int) -> Any:
        return self.pattern.keys(i)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return dense_attention(q, k, v, self.tables[q.shape[1]])

    def num_scores(self, length: int) -> int:
        return length * length


class Absent(Pattern):
    """No attention: what the rest of the network takes."""

    def keys(self, i: int) -> Any:
        return [i]

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return v + 0 * (q.sum() + k.sum())

    def num_scores(self, length: int) -> int:
        return 0


def patterns_of(kind: str) -> list[Pattern]:
    """One pattern a layer."""
    if kind == "strided":
        return [LocalBlocks(STRIDE, STRIDE, STRIDE), Strided(STRIDE)]
    return [LocalBlocks(STRIDE, 0), Summaries(STRIDE, SUMMARY)]


def build(kind: str, how: str, lengths: list[int]) -> tuple[Stack, list[Pattern]]:
    """The two blocks, and their patterns."""
    patterns = patterns_of(kind)
    if how == "dense":
        patterns = [Dense(p, {length: p.mask(length) for length in lengths}) for p in patterns]
    elif how == "absent":
        patterns = [Absent() for _ in patterns]
    torch.manual_seed(0)
    return Stack([Block(Attention(WIDTH, HEADS, [p]), WIDTH, 2 * WIDTH) for p in patterns], WIDTH), patterns


def step(stack: Stack, length: int) -> None:
    """Forward and backward of one sequence."""
    stack(torch.randn(1, length, WIDTH)).square().mean().backward()
    stack.zero_grad(set_to_none=True)


def measure(kind: str, how: str, length: int) -> dict[str, Any]:
    """One configuration, in this process."""
    torch.set_num_threads(1)
    stack, patterns = build(kind, how, [length // 16, length])
    step(stack, length // 16)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step(stack, length)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    times = []
    for _ in range(STEPS):
        started = time.process_time()
        step(stack, length)
        times.append(time.process_time() - started)
    operations = sum(p.num_scores(length) * 4 * WIDTH for p in patterns)  # all heads: d = e = WIDTH / HEADS
    return {"memory_mib": peak / 1024, "cpu_seconds": statistics.median(times), "attention_flops": operations}


def in_new_process(kind: str, how: str, length: int) -> dict[str, Any]:
    """`measure` in a fresh process."""
    command = [sys.executable, __file__, "--one", kind, how, str(length)]
    row: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return row


def compare(kind: str, length: int) -> dict[str, Any]:
    """Ours against dense, at one length."""
    ours, dense, absent = (in_new_process(kind, how, length) for how in ("ours", "dense", "absent"))
    return {
        "pattern": kind,
        "length": length,
        "ours": ours,
        "dense": dense,
        "without_attention": absent,
        "memory_share": ours["memory_mib"] / dense["memory_mib"],
        "flops_share": ours["attention_flops"] / dense["attention_flops"],
        "time_share": ours["cpu_seconds"] / dense["cpu_seconds"],
    }


def rounded(value: Any) -> Any:
    """Numbers of a table to four digits."""
    if isinstance(value, dict):
        return {key: rounded(v) for key, v in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=["strided", "fixed"], choices=["strided", "fixed"])
    parser.add_argument("--lengths", type=int, nargs="+", default=[256, 512, 1024, 2048, 3072])
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sparse_attention.json")
    arguments = parser.parse_args()
    if arguments.one:
        kind, how, length = arguments.one
        print(json.dumps(measure(kind, how, int(length))))
        return
    rows = []
    for kind in arguments.kinds:
        for length in arguments.lengths:
            rows.append(rounded(compare(kind, length)))
            print(json.dumps(rows[-1]), flush=True)
    result = {
        "network": {"blocks": 2, "width": WIDTH, "heads": HEADS, "stride": STRIDE, "summary": SUMMARY, "batch": 1},
        "threads": 1,
        "torch": torch.__version__,
        "cpu": platform.processor() or platform.machine(),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
