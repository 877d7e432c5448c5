"""Files of coded items: a model, integers and a container brought together.

`compress` codes items chunk by chunk and `Archive` decodes any chunk again. The codec is chosen by what the model can do and
is named in the file; a new family of codecs is one entry of `registry.CODECS`.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from codelength import distributed
from codelength.coding.autoregressive import DEFAULT_THREADS
from codelength.coding.conditions import checked_conditions, decode_conditions, encode_conditions
from codelength.coding.container import MAX_CHUNK_ITEMS, Chunk, Container, Fingerprint, Header, write_container
from codelength.coding.machine import machine_class, require_machine
from codelength.coding.parallel import in_order
from codelength.coding.registry import CODECS, Codec, codec_of
from codelength.errors import CodecError, UsageError
from codelength.models.base import LikelihoodModel
from codelength.run import Run

DEFAULT_CHUNK = 512
DTYPES = ("uint8", "uint16", "int8", "int16", "int32", "int64", "uint32")

__all__ = [
    "CODECS",
    "DEFAULT_THREADS",
    "Archive",
    "batch_of",
    "codec_of",
    "compress",
    "dtype_of",
    "load_coder",
    "model_hash",
]

# (items done, items in all)
Progress = Callable[[int, int], None]


def model_hash(model: LikelihoodModel, description: str = "") -> str:
    """SHA-256 of what a model computes with: description, class, space, and every weight and buffer it saves.

    Args:
        model: The model.
        description: What the weights do not say, such as the options it was built with.
    """
    named = [description, type(model).__qualname__, json.dumps(model.space.to_json(), sort_keys=True)]
    digest = hashlib.sha256(json.dumps(named).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_coder(run: Run, dtype: torch.dtype = torch.float32) -> tuple[LikelihoodModel, str]:
    """The model of a run and its hash, options of the recipe included."""
    model = run.load_model(dtype)
    description = json.dumps(run.recipe.model.model_dump(mode="json"), sort_keys=True)
    return model, model_hash(model, description)


def dtype_of(header: Header) -> torch.dtype:
    """Floating-point type that the file's model ran in.

    Raises:
        CodecError: The header names none.
    """
    dtype = getattr(torch, str(header.machine.get("dtype", "float32")), None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise CodecError(f"the file's model runs in {header.machine['dtype']!r}, which is no floating-point type here")
    return dtype


def compress(
    model: LikelihoodModel,
    x: np.ndarray,
    *,
    conditions: Mapping[str, np.ndarray] | None = None,
    model_sha256: str | None = None,
    name: str = "",
    layout: dict[str, Any] | None = None,
    chunk: int = DEFAULT_CHUNK,
    batch: int | None = None,
    threads: int = DEFAULT_THREADS,
    workers: int | None = None,
    progress: Progress | None = None,
    streams: Iterable[bytes] | None = None,
) -> bytes:
    """The file that holds x. The processes of a job (`distributed`) must all call: each codes a part of the chunks.

    Args:
        model: One that a codec of `registry.CODECS` accepts.
        x: Integers, (N, *space.shape).
        conditions: What a conditional model is told of each item, (N,) integers each. The file holds them.
        model_sha256: Hash by which the decoder finds the model; `model_hash(model)` without it.
        name: Name of the model's run, a hint for the reader.
        layout: What the items were; see `Header`.
        chunk: Items a chunk. Any chunk decodes alone; each costs about 24 bytes, and small ones decode slowly.
        batch: Items in lockstep; those of a chunk without it.
        threads: Threads of the arithmetic, also when decoding.
        workers: Chunks coded at once, where the codec allows it; PyTorch's number of threads without it. Changes no byte.
        progress: Called after each chunk.
        streams: The chunks' streams in order, each as `encode_chunk` gives it, where something else computes them.

    Raises:
        CodecError: The model cannot code.
        SpaceMismatchError: x is not of the model's space.
        UsageError: `chunk` is out of range, or a condition of the model is missing.
    """
    if not 1 <= chunk <= MAX_CHUNK_ITEMS:
        raise UsageError(f"a chunk of {chunk} items; wanted 1..{MAX_CHUNK_ITEMS}")
    if x.dtype.name not in DTYPES:
        raise CodecError(f"items of type {x.dtype}; wanted one of {', '.join(DTYPES)}")
    codec_name = codec_of(model)
    codec = CODECS[codec_name]
    classes = model.space.conditions
    given = checked_conditions(conditions or {}, model.conditioning, classes, len(x))
    header = Header(
        codec=codec_name,
        space=model.space,
        model_sha256=model_sha256 or model_hash(model),
        model=name,
        items=len(x),
        batch=batch_of(model, batch or chunk),
        threads=threads,
        machine={} if codec.portable else machine_class(model),
        dtype=x.dtype.name,
        layout=layout or {},
        conditions=tuple(given),
    )

    starts = range(0, len(x), chunk)

    def coded(start: int) -> bytes:
        told = {name: values[start : start + chunk] for name, values in given.items()}
        return encode_chunk(model, x[start : start + chunk], told, batch=header.batch, threads=threads)

    def encoded() -> Iterator[bytes]:
        own = starts[slice(*distributed.share(len(starts)))]
        done = 0
        for start, payload in zip(own, in_order(coded, own, workers if codec.parallel else 1), strict=True):
            yield payload
            done += min(chunk, len(x) - start)
            if progress:
                progress(min(done * distributed.size(), len(x)), len(x))

    if streams is None:
        streams = encoded() if distributed.size() == 1 else distributed.gather_bytes(list(encoded()))
    parts = (_integers(model, x[start : start + chunk]).numpy() for start in starts)
    return write_container(header, zip(parts, streams, strict=True))


def batch_of(model: LikelihoodModel, items: int) -> int:
    """Items that the model's codec takes in lockstep, where `items` are asked for."""
    return CODECS[codec_of(model)].batch(model, min(items, MAX_CHUNK_ITEMS))


def encode_chunk(
    model: LikelihoodModel, x: np.ndarray, conditions: Mapping[str, np.ndarray], *, batch: int, threads: int
) -> bytes:
    """The payload of a chunk: the conditions of its items, int64, and the stream of its integers.

    Args:
        model: As for `compress`.
        x: Integers of the chunk's items, (n, *space.shape).
        conditions: What the model is told of them, (n,) int64 each, in the order of `model.conditioning`.
        batch: Items in lockstep, `Header.batch` of the file.
        threads: Threads of the arithmetic.

    Raises:
        SpaceMismatchError: x is not of the model's space.
    """
    codec = CODECS[codec_of(model)]
    stream = codec.encode(model, _integers(model, x), batch=batch, threads=threads, **_tensors(conditions))
    return encode_conditions(conditions, model.space.conditions) + stream


def _integers(model: LikelihoodModel, x: np.ndarray) -> Tensor:
    return model.space.validate(torch.from_numpy(x.astype(np.int64)))


class Archive:
    """A compressed file, ready to decode.

    Args:
        source: Path of the file, or its bytes.

    Raises:
        CodecError: It is no whole `.clen` file.

    Attributes:
        container: The file's header, index and hash.
    """

    def __init__(self, source: Path | bytes) -> None:
        self._path = source if isinstance(source, Path) else None
        self._content = source if isinstance(source, bytes) else b""
        with self._open() as file:
            self.container = Container(file)
        self.header = self.container.header

    def _open(self) -> BinaryIO:
        if self._path is None:
            return io.BytesIO(self._content)
        try:
            return self._path.open("rb")
        except OSError as error:
            raise CodecError(
                f"cannot read {self._path}: {error.strerror}; give a file that `compress` wrote"
            ) from error

    def require_model(self, model: LikelihoodModel, model_sha256: str | None = None) -> Codec:
        """The file's codec, once it is sure that `model` on this machine is what wrote the file.

        Raises:
            CodecError: Another model, another machine class, or a codec this version does not know.
        """
        if self.header.codec not in CODECS:
            raise CodecError(
                f"codec {self.header.codec!r}; this codelength knows {', '.join(CODECS)}. Upgrade codelength"
            )
        found = model_sha256 or model_hash(model)
        if found != self.header.model_sha256 or model.space != self.header.space:
            raise CodecError(
                f"the file was coded with the model {self.header.model_sha256[:16]} ({self.header.model or 'unnamed'}), "
                f"not with {found[:16]}; give the run it was coded with, its weights unchanged"
            )
        if self.header.conditions != tuple(model.conditioning):
            raise CodecError(
                f"the file holds the conditions {', '.join(self.header.conditions) or '(none)'} but the model takes "
                f"{', '.join(model.conditioning) or '(none)'}; the file is damaged, restore it from a copy"
            )
        codec = CODECS[self.header.codec]
        if not codec.portable:
            require_machine(self.header.machine, model)
        return codec

    def chunks(
        self,
        model: LikelihoodModel,
        items: slice = slice(None),
        *,
        model_sha256: str | None = None,
        workers: int | None = None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Decode the chunks that hold `items`: (index of its first item, integers (n, *shape)) for each.

        Only integers whose hash is that of the encoded ones come out. `workers` chunks are decoded at once where the codec allows it
        (PyTorch's number of threads without it); a few chunks are held at a time.

        Raises:
            CodecError: Another model or machine, or damage.
        """
        codec = self.require_model(model, model_sha256)
        start, stop, _ = items.indices(self.header.items)
        fingerprint = Fingerprint((self.header.items, *self.header.space.sizes))
        wanted = [c for c in self.container.chunks if c.start < stop and start < c.start + c.items]
        decoded = in_order(lambda chunk: self._decode(codec, model, chunk), wanted, workers if codec.parallel else 1)
        for chunk, x in zip(wanted, decoded, strict=True):
            fingerprint.update(x)
            if chunk is wanted[-1] and len(wanted) == len(self.container.chunks):
                self._check(fingerprint)
            first, last = max(start, chunk.start), min(stop, chunk.start + chunk.items)
            yield first, x[first - chunk.start : last - chunk.start]

    def decode(
        self,
        model: LikelihoodModel,
        items: slice = slice(None),
        *,
        model_sha256: str | None = None,
        workers: int | None = None,
    ) -> np.ndarray:
        """All integers of `items`, (n, *shape), in the type they came in; see `chunks`."""
        parts = [x for _, x in self.chunks(model, items, model_sha256=model_sha256, workers=workers)]
        return np.concatenate([np.zeros((0, *self.header.space.sizes), dtype=self.dtype), *parts])

    @property
    def dtype(self) -> np.dtype:
        """Integer type of the original items."""
        if self.header.dtype not in DTYPES:
            raise CodecError(f"the file is damaged: items of type {self.header.dtype!r}. Restore it from a copy")
        return np.dtype(self.header.dtype)

    def conditions(self, items: slice = slice(None)) -> dict[str, np.ndarray]:
        """What the model is told of each of `items`, (n,) int64 each; read without the model.

        Raises:
            CodecError: Damage.
        """
        start, stop, _ = items.indices(self.header.items)
        parts: dict[str, list[np.ndarray]] = {name: [] for name in self.header.conditions}
        for chunk in self.container.chunks if parts else []:
            if chunk.start < stop and start < chunk.start + chunk.items:
                told, _ = self._read(chunk)
                for name, values in told.items():
                    parts[name].append(values[max(start - chunk.start, 0) : stop - chunk.start])
        return {name: np.concatenate([np.zeros(0, dtype=np.int64), *values]) for name, values in parts.items()}

    def _read(self, chunk: Chunk) -> tuple[dict[str, np.ndarray], bytes]:
        """The conditions of a chunk and the stream of its items."""
        with self._open() as file:
            payload = Container.read_payload(file, chunk)
        return decode_conditions(payload, self.header.conditions, self.header.space.conditions, chunk.items)

    def _decode(self, codec: Codec, model: LikelihoodModel, chunk: Chunk) -> np.ndarray:
        told, stream = self._read(chunk)
        options = {"batch": self.header.batch, "threads": self.header.threads}
        x = codec.decode(model, stream, chunk.items, **options, **_tensors(told)).numpy()
        chunk.check_integers(x)
        out = x.astype(self.dtype)
        if not np.array_equal(out, x):
            raise CodecError(f"the file is damaged: its integers do not fit type {self.dtype}. Restore it from a copy")
        return out

    def _check(self, fingerprint: Fingerprint) -> None:
        if fingerprint.digest().hex() != self.container.data_sha256:
            raise CodecError(
                "the decoded integers fail the file's SHA-256: the file is damaged; restore it from a copy"
            )


def _tensors(conditions: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(values) for name, values in conditions.items()}
