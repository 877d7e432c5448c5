"""The codec of autoregressive models: chain rule in, range coder out.

Encoder and decoder walk the same schedule: at each step the model gives the distribution of the next positions from the
values before them, and those positions are coded, channel by channel, for all images of a batch in lockstep. The
encoder could have all distributions in one parallel pass, but a parallel pass sums in another order and its floats differ in
the last bit; so it takes exactly the decoder's steps, with the decoder's batches.

Mean-field models are the case of a single step. All batches go to one stream, so a file costs the few bytes of one stream's
end and not those of a stream an image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codelength.coding.entropy import Decoder, Encoder
from codelength.coding.machine import coding_mode
from codelength.errors import CodecError
from codelength.models.base import LikelihoodModel, can
from codelength.pixels.distribution import ChannelDistribution

CODEC = "autoregressive/1"
DEFAULT_BATCH = 512
# Steps are many and small: more threads spend their time waiting for each other (measured on two busy cores, a small
# PixelCNN++ on 40 digits: 156 s with two threads, 5 s with one). One thread is also what every machine has.
DEFAULT_THREADS = 1
# Largest table of one step, in numbers: 2^24 float64 are 128 MiB.
TABLE_NUMBERS = 2**24
# Largest state of one pass, in numbers: 2^28 float32 are 1 GiB. A model says what one datum takes as `state_numbers`.
STATE_NUMBERS = 2**28

# (distribution of a channel, its levels (n, S); zeros when decoding) -> its levels (n, S)
CodeChannel = Callable[[ChannelDistribution, Tensor], Tensor]


def require_steps(model: Any) -> None:
    """Raise CodecError unless `model` is an exact model with a step schedule."""
    missing = [name for name in ("schedule", "init_state", "step") if not can(model, name)]
    if missing:
        raise CodecError(
            f"{type(model).__name__} has no {missing[0]}: it gives no exact step-by-step distribution to code with. "
            "Choose a run of an autoregressive or mean-field model"
        )


def lockstep_batch(model: LikelihoodModel, batch: int = DEFAULT_BATCH) -> int:
    """Images coded in lockstep: `batch`, or fewer where tables or states would not stay within their limits."""
    require_steps(model)
    stepwise: Any = model
    batch = min(batch, max(1, STATE_NUMBERS // max(1, getattr(model, "state_numbers", 0))))
    sites = max((len(positions.rows) for positions in stepwise.schedule), default=1)
    fitting = TABLE_NUMBERS // (sites * model.space.levels)
    if fitting >= batch or _codes_by_cdf(model):  # a CDF is evaluated level by level: no table
        return max(1, min(batch, TABLE_NUMBERS // sites))
    return max(1, fitting)


def _codes_by_cdf(model: LikelihoodModel) -> bool:
    """Whether the model's channels are coded by CDF, as its first step says."""
    stepwise: Any = model
    with coding_mode(model, torch.get_num_threads()):
        conditions = {name: torch.zeros(1, dtype=torch.long) for name in model.conditioning}
        distribution, _ = stepwise.step(stepwise.init_state(1, **conditions), None)
        channel = distribution.channel(0, torch.zeros((1, 0, *distribution.sites), dtype=torch.long))
    return uses_cdf(channel)


def encode(
    model: LikelihoodModel,
    x: Tensor,
    *,
    batch: int = DEFAULT_BATCH,
    threads: int = DEFAULT_THREADS,
    **conditions: Tensor,
) -> bytes:
    """Code images with a model.

    Args:
        model: Has `schedule`, `init_state` and `step`.
        x: Integers, (N, C, H, W).
        batch: Images in lockstep; the decoder must use the same.
        threads: Threads of the arithmetic; the decoder must use the same.
        conditions: What the model is conditioned on, (N,) each. They are not in the stream: the decoder must be told.

    Returns:
        The range coder's stream; its length in bits is −log2 P(x), given the conditions, up to rounding.

    Raises:
        CodecError: The model cannot code.
        SpaceMismatchError: x is not of the model's space.
    """
    x = model.space.validate(x.cpu())
    encoder = Encoder()

    def code(channel: ChannelDistribution, values: Tensor) -> Tensor:
        symbols = values.reshape(-1).numpy()
        if uses_cdf(channel):
            encoder.encode_by_cdf(symbols, flat_cdf(channel, values.shape), channel.levels)
        else:
            encoder.encode(symbols, flat_table(channel))
        return values

    with coding_mode(model, threads):
        size = lockstep_batch(model, batch)
        for start in range(0, len(x), size):
            given = {name: value[start : start + size] for name, value in conditions.items()}
            _walk(model, x[start : start + size] - model.space.offset, code, given)
    return encoder.finish()


def decode(
    model: LikelihoodModel,
    stream: bytes,
    count: int,
    *,
    batch: int = DEFAULT_BATCH,
    threads: int = DEFAULT_THREADS,
    **conditions: Tensor,
) -> Tensor:
    """The `count` images, int64 (N, C, H, W), that `encode` coded with the same model, batch, threads and conditions.

    A stream that was damaged or coded elsewhere decodes to other integers: the container compares their hash.

    Raises:
        CodecError: The model cannot code, or the stream does not fit it.
    """
    decoder = Decoder(stream)

    def code(channel: ChannelDistribution, values: Tensor) -> Tensor:
        if uses_cdf(channel):
            symbols = decoder.decode_by_cdf(values.numel(), flat_cdf(channel, values.shape), channel.levels)
        else:
            symbols = decoder.decode(flat_table(channel))
        return torch.from_numpy(symbols).reshape(values.shape)

    sizes = model.space.sizes
    batches = [torch.zeros((0, *sizes), dtype=torch.long)]
    with coding_mode(model, threads):
        size = lockstep_batch(model, batch)
        for start in range(0, count, size):
            levels = torch.zeros((min(size, count - start), *sizes), dtype=torch.long)
            _walk(model, levels, code, {name: value[start : start + size] for name, value in conditions.items()})
            batches.append(levels + model.space.offset)
    return torch.cat(batches)


def uses_cdf(channel: ChannelDistribution) -> bool:
    """Whether a channel is coded by CDF: it has a closed form of its own, and more than two levels.

    Part of the format: both sides decide by it.
    """
    return channel.levels > 2 and type(channel).cdf is not ChannelDistribution.cdf


def _walk(model: LikelihoodModel, levels: Tensor, code: CodeChannel, conditions: dict[str, Tensor]) -> None:
    """Take all steps over a batch of levels 0 .. L − 1, (n, C, H, W), which `code` reads or, when decoding, gives."""
    stepwise: Any = model
    state, values = stepwise.init_state(len(levels), **conditions), None
    for positions in stepwise.schedule:
        distribution, state = stepwise.step(state, values)
        values = positions.gather(levels)  # (n, C, S)
        for c in range(values.shape[1]):
            values[:, c] = code(distribution.channel(c, values[:, :c]), values[:, c])
        positions.scatter(levels, values)


def flat_table(channel: ChannelDistribution) -> np.ndarray:
    """Masses of every symbol, (n * S, levels)."""
    probs = channel.probs()
    return probs.reshape(-1, probs.shape[-1]).numpy()


def flat_cdf(channel: ChannelDistribution, shape: torch.Size) -> Callable[[np.ndarray], np.ndarray]:
    """The channel's CDF on flat arrays: (n * S,) integers -> (n * S,) float64."""
    return lambda value: channel.cdf(torch.from_numpy(value).reshape(shape)).reshape(-1).numpy()
