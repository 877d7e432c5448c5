"""The codec of integer flows: data to latents, latents to a range coder, and back.

The flow and its priors are computed in integers, so that both sides have the same latents and the same counts on any machine. The encoder has all latents in one pass; the decoder takes
the flow's way back: the latents that left last first, each group under the prior that those after it give, then the inverse couplings. Levels are coded as in
`integer_codec`: by halving, with integer shares of 2^24.

Order of the stream: lockstep batches of images; in each the groups of latents, last first; in each the channels; in each the halvings; in each the images and their sites.
"""

from __future__ import annotations

import torch
from torch import Tensor

from codelength.coding.autoregressive import DEFAULT_BATCH, DEFAULT_THREADS
from codelength.coding.bits import BitCoder, BitReader, BitWriter
from codelength.coding.integer_codec import decisions, read_channel, write_decisions
from codelength.coding.registry import Codec
from codelength.errors import CodecError
from codelength.integer import IntegerChannel
from codelength.models.base import LikelihoodModel
from codelength.models.discrete_flows.integer_flow import IntegerFlow

CODEC = "integer_flow/1"
IMAGES_AT_ONCE = 16
"""Images that either side passes through the network at once; changes no byte."""


def accepts(model: LikelihoodModel) -> bool:
    """Whether the codec takes the model: an integer flow whose networks are integers."""
    return isinstance(model, IntegerFlow) and bool(getattr(model, "exact_integers", False))


def lockstep_batch(model: LikelihoodModel, batch: int = DEFAULT_BATCH) -> int:
    """Images coded in lockstep: as many as pass through the network at once."""
    return max(1, min(batch, IMAGES_AT_ONCE))


def encode(model: IntegerFlow, x: Tensor, *, batch: int = DEFAULT_BATCH, threads: int = DEFAULT_THREADS) -> bytes:
    """Code images with an integer flow.

    Args:
        model: Its networks compute in integers.
        x: Integers, (N, C, H, W).
        batch: Images in lockstep; the decoder must use the same.
        threads: Not used: the number of threads changes no byte.

    Returns:
        The range coder's stream; its length in bits is −log2 P(x) up to rounding.
    """
    writer = BitWriter()
    with torch.inference_mode():
        for part in x.cpu().split(max(1, batch)):
            for distribution, values in model.coded(part):
                write_decisions(writer, decisions(_counts(distribution), values).flatten(1).numpy())
    return writer.finish()


def decode(
    model: IntegerFlow, stream: bytes, count: int, *, batch: int = DEFAULT_BATCH, threads: int = DEFAULT_THREADS
) -> Tensor:
    """The `count` images, int64 (N, C, H, W), that `encode` coded with the same model and batch.

    Raises:
        CodecError: The stream was not written with this model.
    """
    reader = BitReader(stream)
    with torch.inference_mode():
        parts = [_decode_batch(model, reader, min(batch, count - start)) for start in range(0, count, batch)]
    return torch.cat([torch.zeros((0, *model.space.sizes), dtype=torch.long), *parts])


def _decode_batch(model: IntegerFlow, reader: BitCoder, n: int) -> Tensor:
    walk = model.walk(n)
    distribution = next(walk)
    while True:
        values = read_channel(_counts(distribution), reader)
        try:
            distribution = walk.send(values)
        except StopIteration as end:
            x: Tensor = end.value
            break
    low = model.space.offset
    if not model.wrap and x.numel() and not (int(x.min()) >= low and int(x.max()) < low + model.space.levels):
        raise CodecError("the stream decodes to integers that are no data: the file is damaged; restore a copy")
    return x


def _counts(distribution: object) -> IntegerChannel:
    if not isinstance(distribution, IntegerChannel):
        raise CodecError(f"{type(distribution).__name__} has no integer counts; quantize the run first")
    return distribution


CODEC_ENTRY = Codec(encode, decode, lockstep_batch, accepts, portable=True)
