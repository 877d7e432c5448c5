"""The codecs by name and version: what a file's header may say, and who answers.

A codec turns items of one model into a stream and back. A family adds its own by one entry of CODECS; the container, the commands,
`measure_coding` and the checks against hashes need no change. Entries are imported when they are asked for. A name ends in a version: a
change of the stream is a new name, and the old entry stays while its files should be read.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from codelength.coding import autoregressive, integer_codec, sequence_codec
from codelength.errors import CodecError
from codelength.models.base import LikelihoodModel, can


class Encode(Protocol):
    """Items to a stream: (model, x, *, batch: int, threads: int, **conditions: Tensor) -> bytes.

    A function of its arguments alone: no clock, no state kept between calls. x is (N, *space.sizes), conditions (N,) each.
    """

    def __call__(self, *args: Any, **options: Any) -> bytes: ...


class Decode(Protocol):
    """A stream back to items: (model, stream: bytes, count: int, *, batch: int, threads: int, **conditions: Tensor) -> x, int64.

    Raises:
        CodecError: The stream was not written with this model. It need not notice: hashes of the integers do. But it must end, in memory
            that follows from `count` and the stream's length, whatever the stream holds.
    """

    def __call__(self, *args: Any, **options: Any) -> Tensor: ...


@dataclass(frozen=True)
class Codec:
    """The functions of one family's codec.

    Args:
        encode: (model, x, batch=, threads=, **conditions) -> stream.
        decode: (model, stream, count, batch=, threads=, **conditions) -> x.
        batch: (model, batch) -> items that are coded in lockstep.
        accepts: Whether it codes this model.
        portable: Whether any machine computes the same codes: then the file names no machine class.
        nats: (model, x, batch) -> −log P of what is coded, nats, where that is not the sum of the items' own.
        parallel: Whether several chunks may be coded at once by threads that share the model: calls keep nothing in it, and
            codes do not depend on the number of threads.
    """

    encode: Encode
    decode: Decode
    batch: Callable[[LikelihoodModel, int], int]
    accepts: Callable[[LikelihoodModel], bool]
    portable: bool = False
    nats: Callable[[LikelihoodModel, np.ndarray, int], float] | None = None
    parallel: bool = False


class Registry(Mapping[str, Codec]):
    """Codecs by name; an entry "module:name" is imported when it is asked for."""

    def __init__(self, entries: Mapping[str, Codec | str]) -> None:
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> Codec:
        entry = self._entries[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            entry = self._entries[name] = getattr(importlib.import_module(module), attribute)
        if not isinstance(entry, Codec):
            raise TypeError(f"codec {name}: {entry!r} is no Codec")
        return entry

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _exact(model: LikelihoodModel) -> bool:
    """Exact, by steps, and told nothing that a file cannot hold: classes it can, texts and real features it cannot."""
    told = all(name in model.space.conditions for name in model.conditioning)
    return (
        told
        and model.measure == "mass"
        and all(can(model, name) for name in ("log_prob", "schedule", "init_state", "step"))
    )


def _integers(model: LikelihoodModel) -> bool:
    return _exact(model) and bool(getattr(model, "exact_integers", False))


# name/version -> its Codec, or "module:name" of one; the first that accepts a model codes it. A new family: one line here.
CODECS = Registry(
    {
        integer_codec.CODEC: Codec(
            integer_codec.encode,
            integer_codec.decode,
            integer_codec.lockstep_batch,
            _integers,
            portable=True,
            parallel=True,
        ),
        sequence_codec.CODEC: Codec(
            sequence_codec.encode,
            sequence_codec.decode,
            sequence_codec.lockstep_batch,
            sequence_codec.accepts,
            nats=sequence_codec.ideal_nats,
        ),
        "integer_flow/1": "codelength.coding.flow_codec:CODEC_ENTRY",
        autoregressive.CODEC: Codec(
            autoregressive.encode, autoregressive.decode, autoregressive.lockstep_batch, _exact
        ),
        "local_bits_back/1": "codelength.coding.local_bits_back:LOCAL_BITS_BACK_CODEC",
        "bit_swap/1": "codelength.coding.bits_back:BIT_SWAP_CODEC",
        "bits_back/1": "codelength.coding.bits_back:BITS_BACK_CODEC",
    }
)


def codec_of(model: LikelihoodModel) -> str:
    """Name of the codec for a model.

    Raises:
        CodecError: No codec accepts it.
    """
    for name, codec in CODECS.items():
        if codec.accepts(model):
            return name
    if model.measure != "mass" or not can(model, "log_prob"):
        raise CodecError(
            f"{type(model).__name__} gives a bound or a density, no exact probability of the integers, and no codec codes it "
            "with bits back; choose a run of an autoregressive or mean-field model, of a latent model with Gaussian posteriors, or "
            "of a flow of affine layers under uniform dequantization"
        )
    if can(model, "latents") and can(model, "coded"):
        raise CodecError(
            f"{type(model).__name__} computes its translations in floats, whose rounding other machines need not repeat; "
            "code with its integer form: `codelength quantize RUN --out FOLDER`"
        )
    autoregressive.require_steps(model)
    raise CodecError(f"no codec accepts {type(model).__name__}; choose another run")
