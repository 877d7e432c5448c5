"""What the linear layers of a float model see on calibration data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

ROWS = 2**14
"""Rows kept of each layer's inputs and outputs."""


@dataclass
class Observations:
    """Inputs and outputs of layers by name, float64 (rows, channels)."""

    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)


Seen = dict[str, tuple[list[Tensor], list[Tensor]]]


def _recorder(inputs: list[Tensor], outputs: list[Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def record(_: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        inputs.append(_rows(given[0]))
        outputs.append(_rows(out))

    return record


def _rows(x: Tensor) -> Tensor:
    """Channels last: (..., C) of linear layers or (B, C, H, W) of convolutions to (rows, C)."""
    x = x.detach()
    return (x.movedim(1, -1) if x.ndim == 4 else x).flatten(0, -2)


@contextmanager
def _watch(model: nn.Module, kinds: tuple[type[nn.Module], ...], seen: Seen) -> Iterator[None]:
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, kinds):
            hooks.append(module.register_forward_hook(_recorder(*seen.setdefault(name, ([], [])))))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def observe(
    model: nn.Module, passes: Callable[[], object], kinds: tuple[type[nn.Module], ...] = (nn.Linear,)
) -> Observations:
    """Run `passes` and keep what the layers of `kinds` saw: every n-th row, so that no more than ROWS are kept a layer."""
    seen: Seen = {}
    with torch.no_grad(), _watch(model, kinds, seen):
        passes()
    return Observations(
        {name: _thin(inputs) for name, (inputs, _) in seen.items() if inputs},
        {name: _thin(outputs) for name, (_, outputs) in seen.items() if outputs},
    )


def _thin(parts: list[Tensor]) -> Tensor:
    rows = torch.cat(parts)
    return rows[:: max(1, -(-len(rows) // ROWS))].double()
