"""Operations of hot paths, counted: a guard that does not depend on the machine's load.

    python -m codelength.bench.operations --write tests/bench/operation_counts.json

Each path is run once on a fixed small case. Counted are the operations that PyTorch dispatches and the floating point
operations of its products and convolutions; once with the compiled kernels, where there is a compiler, once without.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from codelength import native
from codelength.models.registry import build_model
from codelength.space import Space

Counts = dict[str, int]


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        return func(*args, **(kwargs or {}))


def count(work: Callable[[], Any]) -> Counts:
    """Operations and floating point operations of one call.

    >>> count(lambda: torch.ones(2, 3) @ torch.ones(3, 4))
    {'operations': 3, 'flops': 48}
    """
    counter, flops = _Counter(), FlopCounterMode(display=False)
    with flops, counter:
        work()
    return {"operations": counter.operations, "flops": flops.get_total_flops()}


def _training_step() -> Callable[[], Any]:
    model, x = _pixelcnn_pp(4, train=True)

    def work() -> None:
        (-model.log_prob(x).mean()).backward()

    work()  # gradients are there, as in all steps but the first
    return work


def _evaluation() -> Callable[[], Any]:
    model, x = _pixelcnn_pp(4, train=False)

    def work() -> None:
        with torch.no_grad():
            model.log_prob(x)

    return work


def _sampling() -> Callable[[], Any]:
    model, _ = _pixelcnn_pp(2, train=False)
    return lambda: model.sample(2, torch.Generator().manual_seed(0))


def _pixelcnn_pp(batch: int, train: bool) -> tuple[Any, torch.Tensor]:
    torch.manual_seed(0)
    model = build_model("pixelcnn_pp", Space.image(3, 8, 8), filters=8, blocks=1, stages=2, components=5)
    x = torch.randint(256, (batch, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    return model.train(train), x


PATHS: dict[str, Callable[[], Callable[[], Any]]] = {
    "training step of PixelCNN++": _training_step,
    "evaluation of PixelCNN++": _evaluation,
    "sampling of PixelCNN++ by steps": _sampling,
}


@contextmanager
def without_kernels() -> Iterator[None]:
    """Formulas in PyTorch, even where there is a compiler."""
    chosen = native.library
    native.library = lambda: None
    try:
        yield
    finally:
        native.library = chosen


def count_all() -> dict[str, dict[str, Counts]]:
    """Counts of all paths: "PyTorch" -> path -> counts, and "compiled" where there is a compiler."""
    with torch.random.fork_rng(), without_kernels():
        counts = {"PyTorch": {name: count(path()) for name, path in PATHS.items()}}
    if native.missing() is None:
        with torch.random.fork_rng():
            counts["compiled"] = {name: count(path()) for name, path in PATHS.items()}
    return counts


def grown(now: dict[str, dict[str, Counts]], before: dict[str, dict[str, Counts]], share: float = 0.1) -> list[str]:
    """Lines on the counts that are more than `share` above those before, or that have none before."""
    lines = []
    for way, paths in now.items():
        for name, counts in paths.items():
            for key, value in counts.items():
                old = before.get(way, {}).get(name, {}).get(key)
                if old is None or value > (1 + share) * old:
                    lines.append(f"{name} ({way}): {value:,} {key}; {'no count' if old is None else f'{old:,}'} before")
    return lines


def main() -> None:
    """Print the counts, or write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    text = json.dumps(count_all(), indent=1) + "\n"
    if arguments.write:
        arguments.write.write_text(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
