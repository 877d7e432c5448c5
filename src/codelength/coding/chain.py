"""Items on one stack, each paying with the bits of those before it: what all bits-back codecs share.

A coder pops what it chooses and pushes what it must. The first item finds the stack empty. It, and any later one that would leave fewer
than 64 bits or that the coder cannot code, goes *plainly*: nothing is popped, its bits are the supply of the items after it. So the initial
bits are part of the file and counted, and none come from outside. One symbol an item says which way, plain with probability 2^−10.

The stack's last item is on top: it is decoded first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from codelength.coding.autoregressive import DEFAULT_THREADS
from codelength.coding.machine import coding_mode
from codelength.coding.stack import Stack
from codelength.errors import CodecError
from codelength.models.base import LikelihoodModel

RESERVE = 64
"""Bits that must be left after pops: a stack that ran empty would choose by its zeros."""
_WAYS = np.array([[1 - 2.0**-10, 2.0**-10]])  # bits back, plain


class Unfit(Exception):
    """An item that a coder can only code plainly."""


class ItemCoder(Protocol):
    """Codes a batch of items of one model onto a stack."""

    def encode(self, stack: Stack, x: Tensor, plain: bool, **conditions: Tensor) -> None:
        """Push items, (n, *sizes), plainly or with pops; raises Unfit where pops will not do."""

    def decode(self, stack: Stack, n: int, plain: bool, **conditions: Tensor) -> Tensor:
        """Pop the n items and push what `encode` popped."""


def encode_chain(
    make: Callable[[Any], ItemCoder],
    model: LikelihoodModel,
    x: Tensor,
    *,
    batch: int = 1,
    threads: int = DEFAULT_THREADS,
    **conditions: Tensor,
) -> bytes:
    """Code items one batch after the other.

    Args:
        make: The coder of a model.
        model: The model.
        x: Integers, (N, *sizes).
        batch: Items that pop together: the initial bits are those of so many. The decoder must use the same.
        threads: Threads of the arithmetic; the decoder must use the same.
        conditions: What the model is conditioned on, (N,) each.

    Returns:
        The stack, bottom first.

    Raises:
        SpaceMismatchError: x is not of the model's space.
    """
    x = model.space.validate(x.cpu())
    coder, stack = make(model), Stack()
    with coding_mode(model, threads):
        for start in range(0, len(x), batch):
            part = x[start : start + batch]
            told = {name: value[start : start + batch] for name, value in conditions.items()}
            before, plain = stack.copy(), stack.bits < RESERVE
            if not plain:
                stack.lowest = stack.bits
                try:
                    coder.encode(stack, part, plain=False, **told)
                    plain = stack.lowest < RESERVE
                except Unfit:
                    plain = True
            if plain:
                stack = before
                coder.encode(stack, part, plain=True, **told)
            stack.push(np.array([int(plain)]), _WAYS)
    return stack.finish()


def decode_chain(
    make: Callable[[Any], ItemCoder],
    model: LikelihoodModel,
    stream: bytes,
    count: int,
    *,
    batch: int = 1,
    threads: int = DEFAULT_THREADS,
    **conditions: Tensor,
) -> Tensor:
    """The `count` items, int64 (N, *sizes), that `encode_chain` coded with the same coder, model, batch, threads and conditions.

    Raises:
        CodecError: The stream was not written so.
    """
    coder, stack = make(model), Stack(stream)
    parts = [torch.zeros((0, *model.space.sizes), dtype=torch.long)]
    with coding_mode(model, threads):
        for start in reversed(range(0, count, batch)):
            told = {name: value[start : start + batch] for name, value in conditions.items()}
            plain = bool(stack.pop(_WAYS)[0])
            parts.append(coder.decode(stack, min(batch, count - start), plain, **told))
    if stack.bits:
        raise CodecError(
            f"{stack.bits} bits are left when all items are decoded: the file is damaged or this machine computes other "
            "floats than the one that wrote it; restore a copy or decode on a machine of its class"
        )
    return torch.cat([parts[0], *parts[:0:-1]])


def one_by_one(model: LikelihoodModel, batch: int) -> int:
    """Items coded together: one, so that the initial bits are those of one item."""
    return 1
