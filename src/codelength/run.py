"""A run: the folder that holds one trained model, its recipe and its records.

recipe.yaml          the resolved recipe
space.json           the space of the data it was trained on
model.safetensors    the weights that are evaluated (selected on validation data)
weights.json         which weights they are: {"weights": "ema" | "raw", "step": ..., "sha256": ...}
state/               what `train --resume` needs
metrics.jsonl        one line a logged step
evaluation/          one folder a record
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from codelength import distributed
from codelength.errors import CheckpointError, UsageError
from codelength.models.base import LikelihoodModel
from codelength.models.registry import build_model, family_of
from codelength.recipe import Recipe, parse_recipe, parse_yaml
from codelength.space import Space


def write_atomically(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file, given whole or in pieces, so that it is either whole or as it was before, even if the disk fills or the process dies.

    Raises:
        CheckpointError: The file cannot be written; the previous one is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    # Not tempfile.mkstemp: its files are for the owner alone, and a report is for others to read.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(
            f"cannot write {path}: {error.strerror}; the previous file is untouched. Free disk space or choose another folder"
        ) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def save_tensors(tensors: dict[str, Tensor], path: Path) -> str:
    """Write tensors as safetensors, atomically; returns the file's SHA-256."""

    content = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing; train the run first, or give the folder of a run") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); resume training or restore it from a copy") from error


def load_weights(model: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Load weights that must fit exactly.

    Raises:
        CheckpointError: A name or shape differs: the checkpoint is of another architecture.
    """
    own = model.state_dict()
    missing, unknown = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    shapes = [n for n in sorted(own.keys() & tensors.keys()) if own[n].shape != tensors[n].shape]
    if missing or unknown or shapes:
        detail = (
            f"no weights for {missing[0]}"
            if missing
            else f"unexpected weights {unknown[0]}"
            if unknown
            else f"{shapes[0]} is {tuple(tensors[shapes[0]].shape)}, wanted {tuple(own[shapes[0]].shape)}"
        )
        raise CheckpointError(
            f"{source} is a checkpoint of another architecture ({detail}; {len(missing)} missing, {len(unknown)} unexpected, "
            f"{len(shapes)} of other shape); use it with the recipe it was trained with"
        )
    model.load_state_dict(tensors)


@dataclass(frozen=True)
class Run:
    """A trained model in its folder."""

    path: Path
    recipe: Recipe
    space: Space
    weights: str
    model_sha256: str
    step: int | None = None

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.path.name

    @property
    def family(self) -> str:
        """Family of the model."""
        return family_of(self.recipe.model.system)

    def build(self) -> LikelihoodModel:
        """The model with fresh weights."""
        return build_model(self.recipe.model.system, self.space, **self.recipe.model.options)

    def load_model(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> LikelihoodModel:
        """The model with the run's weights, in evaluation mode.

        Raises:
            CheckpointError: The weights are missing, damaged or of another architecture.
        """
        model = self.build()
        path = self.path / "model.safetensors"
        tensors = load_tensors(path)
        if self.model_sha256 and file_sha256(path) != self.model_sha256:
            raise CheckpointError(
                f"{path} is not the file that weights.json describes (its SHA-256 differs): saving was interrupted or the "
                "file was changed; resume training or restore both from a copy"
            )
        load_weights(model, tensors, str(path))
        return model.to(device=device, dtype=dtype).eval()

    def metrics(self) -> list[dict[str, Any]]:
        """The logged steps; a last line that is still being written is left out."""
        path = self.path / "metrics.jsonl"
        return read_metrics(path) if path.is_file() else []


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics.jsonl.

    Raises:
        CheckpointError: A whole line is no JSON.
    """
    whole = path.read_bytes().rpartition(b"\n")[0]
    try:
        return [json.loads(line) for line in whole.splitlines()]
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged ({error}); restore it from a copy or train again") from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def create_run(path: Path, recipe: Recipe, space: Space) -> None:
    """Write the folder's recipe and space."""
    write_atomically(path / "recipe.yaml", recipe.to_yaml().encode())
    write_atomically(path / "space.json", json.dumps(space.to_json(), indent=1).encode())


def save_run_weights(path: Path, tensors: dict[str, Tensor], weights: str, step: int) -> None:
    """Write the weights that are evaluated, and say which they are; of several processes the first one does."""
    if not distributed.is_first():
        return
    sha256 = save_tensors(tensors, path / "model.safetensors")
    write_atomically(path / "weights.json", json.dumps({"weights": weights, "step": step, "sha256": sha256}).encode())


def load_run(path: str | Path) -> Run:
    """Open the folder of a run.

    Raises:
        UsageError: It is no run.
        CheckpointError: A file of it is missing.
    """
    path = Path(path)
    if not (path / "recipe.yaml").is_file():
        raise UsageError(
            f"{path} is no run: it has no recipe.yaml. Give the folder that `codelength train --out` wrote"
        )
    try:
        recipe = parse_recipe(parse_yaml((path / "recipe.yaml").read_text()), str(path / "recipe.yaml"))
    except (yaml.YAMLError, TypeError) as error:
        raise CheckpointError(f"{path}/recipe.yaml is damaged ({error}); restore it or train again") from error
    weights: dict[str, Any] = {"weights": "raw", "sha256": ""}
    if (path / "weights.json").is_file():
        weights = _read_json(path / "weights.json")
    space = Space.from_json(_read_json(path / "space.json"))
    return Run(path, recipe, space, weights["weights"], weights["sha256"], weights.get("step"))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        fields: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing; restore it or train again") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged ({error}); restore it or train again") from error
    return fields
