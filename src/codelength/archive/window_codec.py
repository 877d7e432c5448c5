"""The codec `window/2`: images of any size by an integer causal window network that was trained on small ones.

The network sees a window and where its site lies. Sites of a larger image take the tables' rows for their distance from the upper, left and right
edge, and the middle of the trained image where they are far from all of them. Everything else is the network's own integer arithmetic, so any machine
decodes what another wrote.

Images are cut into tiles: bands of the full width and about TILE_ROWS rows, so that only the first rows of a tile miss the rows above. Tiles are
dealt to lanes, each a stream of its own, coded by itself, perhaps by a worker of its own. In a lane all tiles are one wavefront: sites with column + (reach + 1) · row
= t are coded together, at t = 0, 1, ... The writer scores many wavefronts in one pass, the reader one; memory is a few integers a site
beside the network's. `window/1` is one tile and one lane without a head.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from codelength.archive.plane_codec import wavefront
from codelength.coding.bits import BitCoder, BitReader, BitWriter
from codelength.coding.integer_codec import decisions, read_channel, write_decisions
from codelength.coding.parallel import in_order
from codelength.errors import CodecError
from codelength.integer import Lookup
from codelength.models.autoregressive.causal_window_inputs import Window
from codelength.models.quantized.causal_window import IntegerCausalWindow, IntegerWindowDistribution, WindowInputs
from codelength.space import Space

SITES_AT_ONCE = 2**14
"""Sites that the writer scores in one pass: few enough for the processor's cache; changes no byte."""
TILE_ROWS = 256
"""Rows of a tile, about; part of the format, as LANE_SITES and MAX_LANES are."""
NUMBERS_PER_BYTE = 2**12
"""Numbers that a byte may stand for: so that a damaged file does not claim hours. Writers leave what is nearly constant to other codecs."""
LANE_SITES = 2**17
MAX_LANES = 4

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


def encode_window(model: IntegerCausalWindow, x: np.ndarray, workers: int | None = None) -> bytes:
    """(N, C, H, W) integers 0 .. levels − 1 as a stream; `workers` at once change no byte."""
    tiles = tiles_of(*x.shape[:3:2])
    lanes = lanes_of(tiles, x.shape[0] * x.shape[2] * x.shape[3])
    streams = list(in_order(lambda lane: _encode_lane(model, x, lane), lanes, workers))
    sizes = [len(stream) for stream in streams[:-1]]
    return bytes([len(streams)]) + np.array(sizes, dtype="<u4").tobytes() + b"".join(streams)


def decode_window(
    model: IntegerCausalWindow, stream: bytes, shape: tuple[int, int, int, int], workers: int | None = None
) -> np.ndarray:
    """The integers, int64 of `shape`, that `encode_window` wrote with the same model.

    Raises:
        CodecError: The stream was not written with this model.
    """
    require_plausible(stream, shape)
    lanes = lanes_of(tiles_of(shape[0], shape[2]), shape[0] * shape[2] * shape[3])
    head = 1 + 4 * (len(lanes) - 1)
    sizes = np.frombuffer(stream[1:head], dtype="<u4").tolist() if len(stream) >= head else []
    if len(stream) < head or stream[0] != len(lanes) or sum(sizes) + head > len(stream):
        raise CodecError("the stream does not hold its lanes: the file is damaged; restore it from a copy")
    ends = np.cumsum([head, *sizes, len(stream) - head - sum(sizes)]).tolist()
    parts = [stream[start:stop] for start, stop in pairwise(ends)]
    out = np.zeros(shape, dtype=np.int64)
    pairs = zip(lanes, parts, strict=True)
    for lane, values in zip(
        lanes, in_order(lambda pair: _decode_lane(model, *pair, shape), pairs, workers), strict=True
    ):
        for tile, part in zip(lane, values, strict=True):
            out[tile.image, :, tile.top : tile.top + tile.rows] = part[:, : tile.rows]
    return out


def decode_window_1(model: IntegerCausalWindow, stream: bytes, shape: tuple[int, int, int, int]) -> np.ndarray:
    """The same for streams of `window/1`."""
    return _decode_lane(model, [Tile(image, 0, shape[2]) for image in range(shape[0])], stream, shape)


def require_plausible(stream: bytes, shape: tuple[int, int, int, int]) -> None:
    """Raise CodecError where a stream claims more numbers than writers put into so few bytes."""
    numbers = math.prod(shape)
    if numbers > NUMBERS_PER_BYTE * (len(stream) + 64):
        raise CodecError(f"{numbers} numbers in {len(stream)} bytes: the file is damaged; restore it from a copy")


@dataclass(frozen=True)
class Tile:
    """A band of an image: rows top .. top + rows − 1."""

    image: int
    top: int
    rows: int


def tiles_of(count: int, height: int) -> list[Tile]:
    """The tiles of `count` images.

    >>> tiles_of(1, 500)
    [Tile(image=0, top=0, rows=250), Tile(image=0, top=250, rows=250)]
    """
    bands = max(1, (2 * height + TILE_ROWS) // (2 * TILE_ROWS))
    tops = [band * height // bands for band in range(bands + 1)]
    return [Tile(image, top, end - top) for image in range(count) for top, end in pairwise(tops)]


def lanes_of(tiles: list[Tile], sites: int) -> list[list[Tile]]:
    """Tiles in lanes: one for every LANE_SITES sites, MAX_LANES at most, so that small files stay small."""
    count = max(1, min(len(tiles), MAX_LANES, sites // LANE_SITES))
    return [tiles[lane * len(tiles) // count : (lane + 1) * len(tiles) // count] for lane in range(count)]


def _encode_lane(model: IntegerCausalWindow, x: np.ndarray, tiles: list[Tile]) -> bytes:
    writer = BitWriter()
    if not tiles:
        return writer.finish()
    rows = max(tile.rows for tile in tiles)
    levels = torch.zeros((len(tiles), x.shape[1], rows, x.shape[3]), dtype=torch.long)
    for values, tile in zip(levels, tiles, strict=True):
        part = x[tile.image, :, tile.top : tile.top + tile.rows].astype(np.int64)
        values[:, : tile.rows] = torch.from_numpy(part)
    fitted = sized(model, rows, x.shape[3])
    with torch.inference_mode():
        padded = fitted.inputs.pad(levels)
        for steps in _groups(fitted, tiles):
            _write_steps(fitted, writer, padded, levels, steps)
    return writer.finish()


def _decode_lane(
    model: IntegerCausalWindow, tiles: list[Tile], stream: bytes, shape: tuple[int, int, int, int]
) -> np.ndarray:
    """The tiles' integers, (tiles, C, rows of the highest, W)."""
    rows = max((tile.rows for tile in tiles), default=0)
    fitted = sized(model, rows, shape[3])
    reader = BitReader(stream)
    with torch.inference_mode():
        levels = torch.zeros((len(tiles), shape[1], rows, shape[3]), dtype=torch.long)
        padded = fitted.inputs.pad(levels)
        for places in _steps(fitted, tiles):
            _read_step(fitted, reader, padded, levels, places)
    return levels.numpy()


def _steps(model: IntegerCausalWindow, tiles: list[Tile]) -> Iterator[Places]:
    """Tile, row and column of the sites of each wavefront, (M,) each, tile by tile."""
    _, height, width = model.space.sizes
    slope = model.window.reach + 1
    heights = torch.tensor([tile.rows for tile in tiles])
    even = bool((heights == height).all())
    for time in range(width + slope * (height - 1) if tiles and width else 0):
        rows, columns = (torch.from_numpy(part) for part in wavefront(time, height, width, slope))
        if not len(rows):
            continue
        places = (
            torch.arange(len(tiles)).repeat_interleave(len(rows)),
            rows.repeat(len(tiles)),
            columns.repeat(len(tiles)),
        )
        if not even:
            inside = places[1] < heights[places[0]]
            places = places[0][inside], places[1][inside], places[2][inside]
        if len(places[0]):
            yield places


def _groups(model: IntegerCausalWindow, tiles: list[Tile]) -> Iterator[list[Places]]:
    """Wavefronts in groups of about SITES_AT_ONCE sites."""
    group: list[Places] = []
    held = 0
    for places in _steps(model, tiles):
        group.append(places)
        held += len(places[0])
        if held >= SITES_AT_ONCE:
            yield group
            group, held = [], 0
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
    write_decisions(writer, coded)


def _read_step(model: IntegerCausalWindow, reader: BitCoder, padded: Tensor, levels: Tensor, places: Places) -> None:
    image, row, column = places
    distribution = _distribution(model, padded, places)
    values = torch.zeros((len(image), model.space.sizes[0]), dtype=torch.long)
    for c in range(values.shape[1]):
        values[:, c] = read_channel(distribution.channel(c, values[:, :c]), reader)
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
