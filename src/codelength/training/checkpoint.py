"""Checkpoints: everything `--resume` needs, whole or not there at all.

RUN/state/step-00000500/
    model.safetensors      weights in training
    ema.safetensors        weight average, where there is one
    optimizer.safetensors  moments, "PARAMETER/moment"
    state.json             step, counters, and the SHA-256 of the files above

A training whose tensors are sharded over processes (FSDP2) has shard-*.safetensors instead, the part of each process with
all of these, "model/NAME" and so on, in the form of torch.distributed.checkpoint. Either can be resumed by any number of
processes, sharded or not.

A checkpoint is written into a hidden folder, flushed to disk, and renamed: a process killed or a disk filled at any
moment leaves the previous one as it was. state.json is written last and its hashes show a torn file.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from codelength import distributed
from codelength.errors import CheckpointError

PREFIX, SHARD = "step-", "shard-"


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training at the end of a step.

    Args:
        step: The step.
        tensors: "model", "optimizer" and, where there is one, "ema" -> name -> tensor. Empty where it was read from shards.
        fields: What else is needed, JSON values.
        shards: Folder of the shards that it is read from.
    """

    step: int
    tensors: dict[str, dict[str, Tensor]]
    fields: dict[str, Any]
    shards: Path | None = None

    def part(self, name: str, make: Callable[[str, Tensor], Tensor] | None = None) -> dict[str, Tensor]:
        """The tensors of a part, name -> tensor.

        Args:
            name: "model", "optimizer" or "ema".
            make: (name, a tensor without content of the whole shape) -> the tensor to fill from the shards, which may be
                sharded itself; by default the whole.
        """
        if self.shards is None:
            return self.tensors.get(name, {})
        return _read_shards(self.shards, name, make)


def save_checkpoint(state: Path, checkpoint: Checkpoint, *, sharded: bool = False) -> Path:
    """Write a checkpoint into the folder `state`; older ones are removed once it is whole.

    Args:
        state: Folder.
        checkpoint: What to write; all processes hold the same, and the first writes it.
        sharded: Each process writes its part of every tensor; all must call.

    Raises:
        CheckpointError: It cannot be written; the previous one is untouched.
    """
    target = state / f"{PREFIX}{checkpoint.step:08d}"
    temporary = state / f".{target.name}.{os.getpid()}"
    if sharded:
        temporary = distributed.from_first(temporary)
    elif not distributed.is_first():
        return target
    try:
        if distributed.is_first():
            shutil.rmtree(temporary, ignore_errors=True)  # of a killed process that had our number
            temporary.mkdir(parents=True)
        hashes = {}
        if sharded:
            hashes = _write_shards(temporary, checkpoint.tensors)
            if not distributed.is_first():
                return target
        else:
            for part, tensors in checkpoint.tensors.items():
                content = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})
                hashes[f"{part}.safetensors"] = _write(temporary / f"{part}.safetensors", content)
        fields = {"step": checkpoint.step, "sha256": hashes, **checkpoint.fields}
        _write(temporary / "state.json", json.dumps(fields, indent=1).encode())
        _sync_folder(temporary)
        shutil.rmtree(
            target, ignore_errors=True
        )  # only a damaged one can be there: a whole one would have been resumed
        os.rename(temporary, target)
        _sync_folder(state)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        kept = newest(state)
        previous = f"the previous one, {kept}, is whole" if kept else "there is no earlier one"
        raise CheckpointError(
            f"cannot write the checkpoint {target}: {error.strerror or error}; {previous}. Free disk space, then train with --resume"
        ) from error
    for old in state.iterdir():
        if old != target and old.name.lstrip(".").startswith(PREFIX):
            shutil.rmtree(old, ignore_errors=True)
    return target


def load_checkpoint(state: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint of the folder `state`, if any, and what is wrong with newer ones."""
    damages: list[str] = []
    for folder in sorted(state.glob(f"{PREFIX}*"), reverse=True):
        try:
            return _read(folder), damages
        except (OSError, ValueError, KeyError) as error:
            damages.append(f"{folder} is damaged ({' '.join(str(error).split())})")
    return None, damages


def newest(state: Path) -> Path | None:
    """Folder of the newest checkpoint, whole or not."""
    return max(state.glob(f"{PREFIX}*"), default=None)


def _read(folder: Path) -> Checkpoint:
    fields = json.loads((folder / "state.json").read_bytes())
    tensors, shards = {}, None
    for file, sha256 in fields.pop("sha256").items():
        if file.startswith(SHARD):
            shards = folder
            with (folder / file).open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
        else:
            content = (folder / file).read_bytes()
            digest = hashlib.sha256(content).hexdigest()
        if digest != sha256:
            raise ValueError(f"the SHA-256 of {file} is not the one in state.json")
        if shards is None:
            tensors[file.removesuffix(".safetensors")] = load(content)
    return Checkpoint(int(fields.pop("step")), tensors, fields, shards)


def _dcp() -> Any:
    import torch.distributed.checkpoint

    return torch.distributed.checkpoint


def _write_shards(folder: Path, tensors: dict[str, dict[str, Tensor]]) -> dict[str, str]:
    """Write each process's part of the tensors; the first returns the SHA-256 of every file, the others nothing."""
    dcp = _dcp()
    distributed.barrier()  # the folder is there
    flat = {f"{part}/{name}": tensor.detach() for part, named in tensors.items() for name, tensor in named.items()}
    dcp.save(flat, storage_writer=dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True))
    distributed.barrier()  # every file is there
    hashes = {}
    for path in sorted(folder.glob(f"{SHARD}*")) if distributed.is_first() else []:
        with path.open("rb") as file:
            hashes[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
    return hashes


def _read_shards(folder: Path, part: str, make: Callable[[str, Tensor], Tensor] | None) -> dict[str, Tensor]:
    dcp = _dcp()
    reader = dcp.HuggingFaceStorageReader(str(folder))
    tensors = {}
    for key, entry in reader.read_metadata().state_dict_metadata.items():
        if key.startswith(f"{part}/"):
            name = key.removeprefix(f"{part}/")
            shape = torch.empty(entry.size, dtype=entry.properties.dtype, device="meta")
            tensors[name] = torch.zeros(shape.shape, dtype=shape.dtype) if make is None else make(name, shape)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        dcp.load(
            {f"{part}/{name}": tensor for name, tensor in tensors.items()},
            storage_reader=reader,
            no_dist=not distributed.is_active(),
        )
    return tensors


def _write(path: Path, content: bytes) -> str:
    """Write and flush to disk; returns the SHA-256."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(content).hexdigest()


def _sync_folder(folder: Path) -> None:
    """Flush a folder's entries, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
