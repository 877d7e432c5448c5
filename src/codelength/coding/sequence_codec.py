"""The codec of long sequences: all items of a chunk are one text, cut into lanes that are coded side by side.

Items are windows of the model's length, but a text does not restart at each of them: the codec joins them again and lets the
model's steps run on, window after window (`models.sequence.windows`). To have more than one token a step, the text is cut into
lanes of equal length, coded in lockstep; each starts without context, which costs a few bytes. There are as many lanes as there are
LANE tokens, at most `batch`; lanes overlap by a token where the length is no multiple of their number.

Trailing zeros are not coded: they fill up the last item of a text (`pack`). A stream is their number, as LEB128, then the range coder's words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from codelength.coding.autoregressive import DEFAULT_BATCH, DEFAULT_THREADS, STATE_NUMBERS, require_steps, uses_cdf
from codelength.coding.entropy import CDF, Decoder, Encoder
from codelength.coding.leb128 import read_leb128, write_leb128
from codelength.coding.machine import coding_mode
from codelength.errors import CodecError
from codelength.models.autoregressive.base import with_channels
from codelength.models.base import LikelihoodModel, can
from codelength.pixels.distribution import ChannelDistribution

CODEC = "sequence/1"
LANE = 16_384
MAX_LANES = 64


def accepts(model: LikelihoodModel) -> bool:
    """Whether the model's steps may run on beyond the length of a datum."""
    endless = bool(getattr(model, "endless", False)) and not model.conditioning
    return model.measure == "mass" and endless and all(can(model, name) for name in ("log_prob", "init_state", "step"))


def lockstep_batch(model: LikelihoodModel, batch: int = DEFAULT_BATCH) -> int:
    """Most lanes: `batch` or fewer, where states would not stay within their limit."""
    require_steps(model)
    return max(1, min(batch, MAX_LANES, STATE_NUMBERS // max(1, getattr(model, "state_numbers", 0))))


def pack(tokens: np.ndarray, length: int, offset: int = 0) -> np.ndarray:
    """Tokens (N,) as items (M, length), the last one filled up with level 0, the value `offset`.

    >>> pack(np.array([5, 6, 7]), 2).tolist()
    [[5, 6], [7, 0]]
    """
    missing = -len(tokens) % length
    return np.concatenate([tokens, np.full(missing, offset, dtype=tokens.dtype)]).reshape(-1, length)


def lanes(count: int, batch: int) -> tuple[list[int], int]:
    """First token of each lane over `count` tokens, and the length of all of them.

    >>> lanes(3 * LANE + 1, 8)
    ([0, 16384, 32768], 16385)
    """
    number = min(max(1, count // LANE), batch)
    length = -(-count // number)
    return [i * (count - length) // max(1, number - 1) for i in range(number)], length


def encode(model: LikelihoodModel, x: Tensor, *, batch: int = DEFAULT_BATCH, threads: int = DEFAULT_THREADS) -> bytes:
    """Code items (N, T) or (N, 1, T), one text in order; see the module's docstring."""
    flat = model.space.validate(x.cpu()).reshape(-1).numpy() - model.space.offset
    filled = np.flatnonzero(flat)
    count = int(filled[-1]) + 1 if len(filled) else 0
    encoder = Encoder()

    def code(channel: ChannelDistribution, values: np.ndarray) -> np.ndarray:
        if uses_cdf(channel):
            encoder.encode_by_cdf(values, _cdf(channel), channel.levels)
        else:
            encoder.encode(values, channel.probs()[:, 0].numpy())
        return values

    _walk(model, flat, count, code, batch, threads)
    return write_leb128(len(flat) - count) + encoder.finish()


def decode(
    model: LikelihoodModel,
    stream: bytes,
    count: int,
    *,
    batch: int = DEFAULT_BATCH,
    threads: int = DEFAULT_THREADS,
) -> Tensor:
    """The `count` items, int64 (count, *space.sizes), that `encode` coded with the same model, batch and threads.

    Raises:
        CodecError: The stream does not fit the model, or ends inside its first number.
    """
    length = model.space.num_dims
    zeros, start = read_leb128(stream, 9, "does not say how many tokens it holds")
    if zeros > count * length:
        raise CodecError("the file is damaged: a chunk has more trailing zeros than tokens. Restore it from a copy")
    decoder = Decoder(stream[start:])
    flat = np.zeros(count * length, dtype=np.int64)

    def code(channel: ChannelDistribution, values: np.ndarray) -> np.ndarray:
        if uses_cdf(channel):
            return decoder.decode_by_cdf(len(values), _cdf(channel), channel.levels)
        return decoder.decode(channel.probs()[:, 0].numpy())

    _walk(model, flat, len(flat) - zeros, code, batch, threads)
    return torch.from_numpy(flat).reshape(count, *model.space.sizes) + model.space.offset


def ideal_nats(model: LikelihoodModel, x: np.ndarray, batch: int) -> float:
    """−log P of the lanes that `encode` codes for items x, by the parallel pass, nats."""
    from codelength.evaluation.text import token_nats

    sizes: Any = model
    flat = x.reshape(-1) - model.space.offset
    filled = np.flatnonzero(flat)
    starts, length = lanes(int(filled[-1]) + 1 if len(filled) else 0, batch)
    texts = [flat[start : start + length] + model.space.offset for start in starts if length]
    if sizes.context is None:  # a state without windows: all of a lane in one pass
        with torch.inference_mode():
            parts = [torch.from_numpy(text).view(1, *[1] * (len(model.space.shape) - 1), -1) for text in texts]
            return -sum(float(sizes.conditionals(x).log_prob(with_channels(x) - model.space.offset)) for x in parts)
    return sum(float(token_nats(model, t, context=sizes.context, stride=sizes.stride).sum()) for t in texts)


def _walk(model: LikelihoodModel, flat: np.ndarray, count: int, code: Any, batch: int, threads: int) -> None:
    """Take all steps over the levels of `count` tokens, which `code` reads or, when decoding, gives."""
    if not count:
        return
    stepwise: Any = model
    starts, length = lanes(count, batch)
    places = np.array(starts)
    with coding_mode(model, threads):
        state, values = stepwise.init_state(len(starts)), None
        for _ in range(length):
            distribution, state = stepwise.step(state, values)
            channel = distribution.channel(0, torch.zeros((len(starts), 0, 1), dtype=torch.long))
            found = code(channel, flat[places])
            flat[places] = found
            values = torch.from_numpy(found)[:, None, None]
            places = places + 1


def _cdf(channel: ChannelDistribution) -> CDF:
    """The CDF of every lane's next token: (lanes,) integers -> (lanes,) float64."""
    return lambda value: channel.cdf(torch.from_numpy(value).unsqueeze(1))[:, 0].numpy()
