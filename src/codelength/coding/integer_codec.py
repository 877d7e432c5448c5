"""The codec of integer models: codes that decode on any machine.

An integer model's cumulative counts are the same integers wherever and however they are computed. So the encoder takes all
positions in one parallel pass, the decoder takes the model's steps, and neither the number of threads nor the
machine matters. A level is coded by halving its range: each halving [low, high) at `middle` is one binary symbol with the share

    p = floor((C(middle) − C(low)) · (2^24 − 2) / (C(high) − C(low))) + 1

of 2^24, where C(v) counts the levels under v. Counts are integers below 2^53, held in float64: the product and the quotient are rounded once each by
IEEE-754, so p is the same everywhere. The range coder then works in integers (`coding/entropy.py`).

Order of the stream: lockstep batches of images; in each the steps of the schedule; in each the channels; in each the halvings;
in each the images, and in each its sites. The first range is a power of two: levels beyond the model's have no count.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codelength.coding.autoregressive import DEFAULT_BATCH, DEFAULT_THREADS, require_steps
from codelength.coding.bits import SHARE_BITS, WHOLE, BitCoder, BitReader, BitWriter
from codelength.errors import CodecError
from codelength.integer import IntegerChannel
from codelength.models.base import LikelihoodModel

CODEC = "integer/1"
IMAGES_AT_ONCE = 8
"""Images that the encoder scores in one parallel pass: few enough for the processor's cache; changes no byte."""


def lockstep_batch(model: LikelihoodModel, batch: int = DEFAULT_BATCH) -> int:
    """Images coded in lockstep."""
    require_steps(model)
    return max(1, batch)


class Halvings:
    """Ranges of levels [low, low + size), halved together until each holds one level.

    The first range is a power of two; levels that the channel does not have count 0 and so get the least share.

    Args:
        channel: The levels' distribution, of any shape.
    """

    def __init__(self, channel: IntegerChannel) -> None:
        self._channel = channel
        self.count = num_halvings(channel.levels)
        self.size = 2**self.count
        self._whole = channel.total.clone()
        self._below = torch.zeros_like(self._whole)
        self._first = self._below
        self.low = torch.zeros(self._whole.shape, dtype=torch.int32)

    @property
    def middle(self) -> Tensor:
        """First level of each range's upper half."""
        return self.low + self.size // 2

    def shares(self) -> Tensor:
        """p of each range's lower half, float64 integers 1 .. 2^24 − 1."""
        middle = self.middle
        levels = self._channel.levels
        whole = levels == 2**self.count
        at = self._channel.between(middle) if whole else self._channel.below(middle.clamp_(max=levels))
        self._first = at.sub_(self._below)
        # Only a damaged stream reaches a range without a count.
        return (self._first * (WHOLE - 2)).div_(self._whole.clamp(min=1)).floor_().add_(1)

    def take(self, upper: Tensor) -> None:
        """Go on in the upper half where `upper`, float64 0 or 1, is 1, else in the lower one. Sums of integers: exact."""
        passed = self._first * upper
        self._below.add_(passed)
        self._whole = self._first.add_(upper * (self._whole - self._first).sub_(self._first))
        self.size //= 2
        self.low.add_((upper * self.size).to(torch.int32))


def num_halvings(levels: int) -> int:
    """Halvings until every range of `levels` levels holds one.

    >>> num_halvings(256), num_halvings(3)
    (8, 2)
    """
    return max(1, (levels - 1).bit_length())


def decisions(channel: IntegerChannel, values: Tensor) -> Tensor:
    """All halvings of some levels, int32 (halvings, *shape): the share p, plus 2^24 where the level is in the upper half."""
    halvings = Halvings(channel)
    out = torch.empty((halvings.count, *values.shape), dtype=torch.int32)
    for row in out:
        shares = halvings.shares()
        upper = (values >= halvings.middle).double()
        row.copy_(shares.add_(upper, alpha=float(WHOLE)))
        halvings.take(upper)
    return out


def encode(
    model: LikelihoodModel,
    x: Tensor,
    *,
    batch: int = DEFAULT_BATCH,
    threads: int = DEFAULT_THREADS,
    **conditions: Tensor,
) -> bytes:
    """Code images with an integer model.

    Args:
        model: Gives `IntegerDistribution`s; `model.exact_integers` is true.
        x: Integers, (N, C, H, W).
        batch: Images in lockstep; the decoder must use the same.
        threads: Not used: the current number of threads changes no byte.
        conditions: The model's conditions, (N,) each.

    Returns:
        The range coder's stream; its length in bits is −log2 P(x) up to rounding.
    """
    levels = model.space.validate(x.cpu()) - model.space.offset
    writer = BitWriter()
    with torch.inference_mode():
        for start in range(0, len(x), batch):
            stop = start + batch
            given = {name: value[start:stop] for name, value in conditions.items()}
            for coded in _coding_order(model, levels[start:stop], given):
                write_decisions(writer, coded)
    return writer.finish()


def write_decisions(writer: BitCoder, coded: np.ndarray) -> None:
    """Binary symbols into the stream, as `decisions` holds them, in the order of memory."""
    coded = coded.ravel()
    writer.code(coded & (WHOLE - 1), coded >> SHARE_BITS)


def _coding_order(model: Any, levels: Tensor, conditions: dict[str, Tensor]) -> Iterator[np.ndarray]:
    """Binary symbols of a lockstep batch in the order of the stream, as `decisions` holds them."""
    made = _all_decisions(model, levels, conditions)
    first = 0
    for positions in model.schedule:
        last = first + len(positions.rows)
        for channel in made:
            for halving in channel[..., first:last]:  # (n, S)
                coded = halving[halving >= 0] if halving.min() < 0 else halving.ravel()
                if coded.size:
                    yield coded
        first = last


def _all_decisions(model: Any, levels: Tensor, conditions: dict[str, Tensor]) -> np.ndarray:
    """Decisions of all images, int32 (C, halvings, n, sites), sites in the order of the schedule."""
    width = levels.shape[-1]
    order = torch.cat([positions.rows * width + positions.columns for positions in model.schedule])
    parts = []
    for start in range(0, len(levels), IMAGES_AT_ONCE):
        part = levels[start : start + IMAGES_AT_ONCE]
        given = {name: value[start : start + IMAGES_AT_ONCE] for name, value in conditions.items()}
        distribution = model.conditionals(part + model.space.offset, **given)
        channels = [decisions(distribution.channel(c, part[:, :c]), part[:, c]) for c in range(part.shape[1])]
        parts.append(torch.stack(channels).flatten(-2)[..., order])
    return torch.cat(parts, dim=2).numpy()


def decode(
    model: LikelihoodModel,
    stream: bytes,
    count: int,
    *,
    batch: int = DEFAULT_BATCH,
    threads: int = DEFAULT_THREADS,
    **conditions: Tensor,
) -> Tensor:
    """The `count` images, int64 (N, C, H, W), that `encode` coded with the same model and batch.

    Raises:
        CodecError: The stream was not written with this model.
    """
    reader = BitReader(stream)
    batches = [torch.zeros((0, *model.space.sizes), dtype=torch.long)]
    with torch.inference_mode():
        for start in range(0, count, batch):
            given = {name: value[start : start + batch] for name, value in conditions.items()}
            batches.append(_decode_batch(model, reader, min(batch, count - start), given) + model.space.offset)
    return torch.cat(batches)


def _decode_batch(model: Any, reader: BitCoder, n: int, conditions: dict[str, Tensor]) -> Tensor:
    levels = torch.zeros((n, *model.space.sizes), dtype=torch.long)
    state, values = model.init_state(n, **conditions), None
    for positions in model.schedule:
        distribution, state = model.step(state, values)
        values = positions.gather(levels)
        for c in range(values.shape[1]):
            channel = distribution.channel(c, values[:, :c])
            if not isinstance(channel, IntegerChannel):
                raise CodecError(f"{type(model).__name__} gives {type(channel).__name__}, which has no integer counts")
            values[:, c] = read_channel(channel, reader)
        positions.scatter(levels, values)
    return levels


def read_channel(channel: IntegerChannel, reader: BitCoder) -> Tensor:
    """The levels of a channel, int32 of its shape, out of the stream.

    Raises:
        CodecError: The stream was not written with these counts.
    """
    halvings = Halvings(channel)
    for _ in range(halvings.count):
        shares = halvings.shares()
        upper = reader.code(shares.numpy().ravel(), None)
        halvings.take(torch.from_numpy(upper).view(shares.shape).double())
    if channel.levels != 2**halvings.count and bool((halvings.low >= channel.levels).any()):
        raise CodecError("the stream holds levels that the model does not have: the file is damaged; restore a copy")
    return halvings.low
