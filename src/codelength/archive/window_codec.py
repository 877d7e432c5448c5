"""The codec `window/1`: images of any size by an integer causal window network that was trained on small ones.

The network sees a window and where its site lies. Sites of a larger image take the tables' rows for their distance from the upper, left and right
edge, and the middle of the trained image where they are far from all of them. Everything else is the network's own integer arithmetic, so any machine
decodes what another wrote.

The whole image is one wavefront: sites with column + (reach + 1) · row = t are coded together, at t = 0, 1, ..., and so are images of one size. The writer
scores many wavefronts in one pass, the reader one; memory is a few integers a site beside the network's.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from codelength.archive.bits import BitCoder, BitReader, BitWriter
from codelength.archive.plane_codec import wavefront
from codelength.coding.integer_codec import SHARE_BITS, Halvings, decisions
from codelength.errors import CodecError
from codelength.integer import Lookup
from codelength.models.autoregressive.causal_window_inputs import Window
from codelength.models.quantized.causal_window import IntegerCausalWindow, IntegerWindowDistribution, WindowInputs
from codelength.space import Space

SITES_AT_ONCE = 2**13
"""Sites that the writer scores in one pass; changes no byte."""

Places = tuple[Tensor, Tensor, Tensor]


def sized(model: IntegerCausalWindow, height: int, width: int) -> IntegerCausalWindow:
    """The model for images of another size: its networks, with the tables of rows and columns stretched in the middle."""
    out = copy.copy(model)
    out._modules = dict(model._modules)
    space = model.space
    out.space = Space.image(space.sizes[0], height, width, space.levels, channels=space.channels)
    out.window = Window(out.space, model.window.rows, model.window.reach)
    inputs = copy.copy(model.inputs)
    inputs._modules = dict(model.inputs._modules)
    inputs.window = out.window
    inputs.row = _stretched(model.inputs.row, height, both_ends=False)
    inputs.column = _stretched(model.inputs.column, width, both_ends=True)
    out.inputs = inputs
    return out


def _stretched(table: Lookup, size: int, *, both_ends: bool) -> Lookup:
    """A table over 0 .. size − 1: the first entries, the middle one repeated, and at `both_ends` the last ones."""
    place = torch.arange(size)
    middle = table.size // 2
    index = place.clamp(max=middle)
    if both_ends:
        from_end = size - 1 - place
        index = torch.where((from_end < place) & (from_end < middle), table.size - 1 - from_end, index)
    out = Lookup(0, size, table.values.shape[1])
    out.set(table.values[index])
    return out


def encode_window(model: IntegerCausalWindow, x: np.ndarray) -> bytes:
    """(N, C, H, W) integers 0 .. levels − 1 as a stream."""
    fitted = sized(model, *x.shape[2:])
    levels = torch.from_numpy(x.astype(np.int64))
    writer = BitWriter()
    with torch.inference_mode():
        padded = fitted.inputs.pad(levels)
        for steps in _groups(fitted, len(x)):
            _write_steps(fitted, writer, padded, levels, steps)
    return writer.finish()


def decode_window(model: IntegerCausalWindow, stream: bytes, shape: tuple[int, int, int, int]) -> np.ndarray:
    """The integers, int64 of `shape`, that `encode_window` wrote with the same model.

    Raises:
        CodecError: The stream was not written with this model.
    """
    fitted = sized(model, *shape[2:])
    reader = BitReader(stream)
    with torch.inference_mode():
        levels = torch.zeros(shape, dtype=torch.long)
        padded = fitted.inputs.pad(levels)
        for places in _steps(fitted, shape[0]):
            _read_step(fitted, reader, padded, levels, places)
    return levels.numpy()


def _steps(model: IntegerCausalWindow, count: int) -> Iterator[Places]:
    """Image, row and column of the sites of each wavefront, (M,) each, image by image."""
    _, height, width = model.space.sizes
    slope = model.window.reach + 1
    for time in range(width + slope * (height - 1) if count else 0):
        rows, columns = (torch.from_numpy(part) for part in wavefront(time, height, width, slope))
        if len(rows):
            yield torch.arange(count).repeat_interleave(len(rows)), rows.repeat(count), columns.repeat(count)


def _groups(model: IntegerCausalWindow, count: int) -> Iterator[list[Places]]:
    """Wavefronts in groups of about SITES_AT_ONCE sites."""
    group: list[Places] = []
    for places in _steps(model, count):
        group.append(places)
        if sum(len(step[0]) for step in group) >= SITES_AT_ONCE:
            yield group
            group = []
    if group:
        yield group


def _distribution(model: IntegerCausalWindow, padded: Tensor, places: Places) -> IntegerWindowDistribution:
    return model._at(padded, places, (len(places[0]), ()), None)


def _write_steps(
    model: IntegerCausalWindow, writer: BitCoder, padded: Tensor, levels: Tensor, steps: list[Places]
) -> None:
    image, row, column = (torch.cat(parts) for parts in zip(*steps, strict=True))
    values = levels[image, :, row, column]  # (M, C)
    distribution = _distribution(model, padded, (image, row, column))
    channels = range(values.shape[1])
    made = torch.stack([decisions(distribution.channel(c, values[:, :c]), values[:, c]) for c in channels]).numpy()
    ends = np.cumsum([len(step[0]) for step in steps])[:-1]
    coded = np.concatenate([part.ravel() for part in np.split(made, ends, axis=2)])  # (C, halvings, n) step by step
    writer.code((coded & (2**SHARE_BITS - 1)).astype(np.int64), (coded >> SHARE_BITS).astype(np.int64))


def _read_step(model: IntegerCausalWindow, reader: BitCoder, padded: Tensor, levels: Tensor, places: Places) -> None:
    image, row, column = places
    distribution = _distribution(model, padded, places)
    values = torch.zeros((len(image), model.space.sizes[0]), dtype=torch.long)
    for c in range(values.shape[1]):
        halvings = Halvings(distribution.channel(c, values[:, :c]))
        for _ in range(halvings.count):
            upper = reader.code(halvings.shares().numpy(), None)
            halvings.take(torch.from_numpy(upper).double())
        if bool((halvings.low >= model.space.levels).any()):
            raise CodecError("the stream holds levels that the model does not have: the file is damaged; restore it")
        values[:, c] = halvings.low
    levels[image, :, row, column] = values
    window = model.window
    site = (row + window.rows) * window.padded_width + column + window.reach
    padded[:, image, site] = values.t().to(padded.dtype)


def fits(model: object, channels: int, levels: int) -> bool:
    """Whether the codec can code images of that many channels and levels with a model."""
    return (
        isinstance(model, IntegerCausalWindow)
        and model.space.sizes[0] == channels
        and model.space.levels == levels
        and model.space.offset == 0
        and not model.conditioning
        and isinstance(model.inputs, WindowInputs)
    )
