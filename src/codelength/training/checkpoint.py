"""Checkpoints: everything `--resume` needs, whole or not there at all.

RUN/state/step-00000500/
    model.safetensors      weights in training
    ema.safetensors        weight average, where there is one
    optimizer.safetensors  moments, "PARAMETER/moment"
    state.json             step, counters, and the SHA-256 of the files above

A checkpoint is written into a hidden folder, flushed to disk, and renamed: a process killed or a disk filled at any
moment leaves the previous one as it was. state.json is written last and its hashes show a torn file.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from codelength.errors import CheckpointError

PREFIX = "step-"


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training at the end of a step.

    Args:
        step: The step.
        tensors: "model", "optimizer" and, where there is one, "ema" -> name -> tensor.
        fields: What else is needed, JSON values.
    """

    step: int
    tensors: dict[str, dict[str, Tensor]]
    fields: dict[str, Any]


def save_checkpoint(state: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint into the folder `state`; older ones are removed once it is whole.

    Raises:
        CheckpointError: It cannot be written; the previous one is untouched.
    """
    target = state / f"{PREFIX}{checkpoint.step:08d}"
    temporary = state / f".{target.name}.{os.getpid()}"
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # of a killed process that had our number
        temporary.mkdir(parents=True)
        hashes = {}
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
    tensors = {}
    for file, sha256 in fields.pop("sha256").items():
        content = (folder / file).read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError(f"the SHA-256 of {file} is not the one in state.json")
        tensors[file.removesuffix(".safetensors")] = load(content)
    return Checkpoint(int(fields.pop("step")), tensors, fields)


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
