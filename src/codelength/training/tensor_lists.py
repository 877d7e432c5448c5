"""Norms, averages and steps of AdamW over lists of tensors by one call of a kernel.

A small model has hundreds of parameters of a few numbers; PyTorch's foreach and fused functions go through them one by one
on a CPU, at a microsecond or more each. Tensors are float32 on a CPU without gaps; `fits` says so, and callers use PyTorch's
functions for all others.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from codelength import native

PIECE = 16_384
"""Numbers of a piece, the most that one thread takes at a time."""
ROW = np.dtype([(name, np.int64) for name in ("to", "from", "moment", "square", "n")])
"""`piece` of kernels.c."""


def fits(*lists: Sequence[Tensor]) -> bool:
    """Whether kernels take lists of tensors that belong together: equally long, and each tensor laid out like its partners."""
    if native.library() is None or len({len(tensors) for tensors in lists}) != 1:
        return False
    return all(
        all(type(x) in (Tensor, nn.Parameter) and x.dtype == torch.float32 and x.device.type == "cpu" for x in partners)
        and all(x.shape == partners[0].shape and x.stride() == partners[0].stride() for x in partners[1:])
        and _dense(partners[0])
        for partners in zip(*lists, strict=True)
    )


def _dense(x: Tensor) -> bool:
    return x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last))


class _Call(ctypes.Structure):
    """`list_call` of kernels.c."""

    _fields_ = [
        ("pieces", ctypes.c_void_p),
        ("totals", ctypes.c_void_p),
        *[(name, ctypes.c_float) for name in ("share", "rate", "beta1", "beta2", "epsilon", "shrink")],
        *[(name, ctypes.c_float) for name in ("correction", "root_correction")],
    ]


class Pieces:
    """Tensors that belong together, cut into pieces.

    Args:
        lists: Field of `piece` -> tensors that `fits`. Only their addresses are kept: whoever runs a function holds the tensors, and
            places them again when they have moved.
    """

    def __init__(self, **lists: Sequence[Tensor]) -> None:
        sizes = [x.numel() for x in next(iter(lists.values()))]
        self._owner = np.repeat(np.arange(len(sizes)), [math.ceil(size / PIECE) for size in sizes])
        starts = np.concatenate([np.arange(0, size, PIECE) for size in sizes]) if sizes else np.zeros(0, np.int64)
        self._offset = 4 * starts
        self.rows = np.zeros(len(starts), ROW)
        self.rows["n"] = np.minimum(np.array(sizes, np.int64)[self._owner] - starts, PIECE)
        for field, tensors in lists.items():
            self.place(field, tensors)
        self._numbers = sum(sizes)

    def place(self, field: str, tensors: Iterable[Tensor]) -> None:
        """Where the tensors of a field lie from now on."""
        self.rows[field] = np.array([x.data_ptr() for x in tensors], np.int64)[self._owner] + self._offset

    def norm(self) -> float:
        """Square root of the sum of squares of all numbers of "from", summed in float64; NaN or infinity where one is."""
        totals = np.zeros(len(self.rows))
        self.run("sum_squares", totals=totals.ctypes.data)
        return float(np.sqrt(totals.sum()))

    def run(self, function: str, **numbers: Any) -> None:
        """Call a function of the library on all pieces."""
        if not len(self.rows):
            return
        call = _Call(pieces=self.rows.ctypes.data, **numbers)
        kernel = getattr(native.library(), f"codelength_{function}")

        def work(first: int, last: int) -> int:
            code: int = kernel(ctypes.byref(call), ctypes.c_int64(first), ctypes.c_int64(last))
            return code

        native.parallel(work, len(self.rows), self._numbers)


class ListAdamW(torch.optim.AdamW):
    """`torch.optim.AdamW`, a group's step by one call; the same state, and the same numbers up to round-off.

    Where a group's tensors do not fit, or some parameter has no gradient, PyTorch takes the step.

    Reference: Loshchilov & Hutter, arXiv:1711.05101, algorithm 2.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step."""
        groups = [self._group(group["params"]) for group in self.param_groups]
        if closure is not None or any(group is None for group in groups):
            self.__dict__["_known"] = {}  # PyTorch counts each parameter's steps by itself
            return super().step(closure)
        for group, ready in zip(self.param_groups, groups, strict=True):
            assert ready is not None
            (beta1, beta2), rate = group["betas"], group["lr"]
            done = float(ready.steps.add_(1)[0])
            ready.pieces.run(
                "adamw",
                rate=rate,
                beta1=beta1,
                beta2=beta2,
                epsilon=group["eps"],
                shrink=1 - rate * group["weight_decay"],
                correction=1 - beta1**done,
                root_correction=math.sqrt(1 - beta2**done),
            )
        return None

    def _group(self, parameters: list[nn.Parameter]) -> _Group | None:
        """A group's tensors as they lie now; None where kernels do not take them."""
        known: dict[int, _Group] = self.__dict__.setdefault("_known", {})
        group = known.get(id(parameters))
        states: list[dict[str, Tensor]] = [self.state.get(p) or {} for p in parameters]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not all(states) or len(gradients) < len(parameters):
            return None
        moments = [[state[key] for state in states] for key in ("exp_avg", "exp_avg_sq")]
        if group is None or not group.is_of(states):
            steps = torch.stack([state["step"] for state in states]).clone()
            if not fits(parameters, gradients, *moments) or not bool((steps == steps[0]).all()):
                return None
            for state, step in zip(states, steps, strict=True):
                state["step"] = step  # a view: all are counted up at once
            group = _Group(states, steps, Pieces(to=parameters, moment=moments[0], square=moments[1]))
            known[id(parameters)] = group
        elif not all(
            g.stride() == p.stride() and g.dtype == p.dtype for g, p in zip(gradients, parameters, strict=True)
        ):
            return None
        group.pieces.place("to", parameters)
        group.pieces.place("from", gradients)
        group.pieces.place("moment", moments[0])
        group.pieces.place("square", moments[1])
        return group


class _Group:
    """What is known of a group, until its state is replaced."""

    def __init__(self, states: list[dict[str, Tensor]], steps: Tensor, pieces: Pieces) -> None:
        self._held = [(state["step"], state["exp_avg"], state["exp_avg_sq"]) for state in states]
        self.steps, self.pieces = steps, pieces

    def is_of(self, states: list[dict[str, Tensor]]) -> bool:
        keys = ("step", "exp_avg", "exp_avg_sq")
        return all(
            held[i] is state[key] for held, state in zip(self._held, states, strict=True) for i, key in enumerate(keys)
        )
