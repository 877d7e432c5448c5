"""The recipe's model, fresh."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from codelength.data.dataset import DataSet
from codelength.errors import UsageError
from codelength.models.registry import build_model
from codelength.randomness import derive_seed
from codelength.recipe import Recipe
from codelength.run import load_run, load_tensors, load_weights, write_atomically
from codelength.training.batches import is_real


def seed_torch(device: torch.device, *parts: int | str) -> None:
    """Seed the global generators by `derive_seed(*parts)`: of initialization and dropout, which take no other.

    On the CPU only its own: torch.manual_seed also queues seeds for GPUs that are not there, at 0.2 ms a call.
    """
    seed = derive_seed(*parts)
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def fresh_model(recipe: Recipe, data: DataSet, device: torch.device) -> Any:
    """The recipe's model with the weights its seed gives, on `device`.

    Raises:
        UsageError: A density over integers, or a mass over real data.
    """
    seed_torch(device, recipe.training.seed, "initialization")
    model: Any = build_model(recipe.model.system, data.space, **recipe.model.options).to(device)
    if (model.measure == "density") != is_real(data.split("train")):
        data_are, fix = (
            ("integers", "dequantize or discretize it, else it could put infinite density on a level")
            if model.measure == "density"
            else ("real numbers", "choose a density or quantize the data")
        )
        raise UsageError(
            f"model system {recipe.model.system!r} is a {model.measure} but the data {data.name!r} are {data_are}; {fix}"
        )
    return model.to(memory_format=torch.channels_last) if recipe.training.channels_last else model


def start_from(model: nn.Module, run: str, folder: Path) -> None:
    """Load the weights of another run, and write beside ours, in start.json, which they were.

    Args:
        model: Of the same architecture; what it is trained for may differ.
        run: Folder of the run, or the name of one in the same folder as `folder`.
        folder: The run that starts.

    Raises:
        UsageError: There is no such run.
        CheckpointError: Its weights are missing or of another architecture.
    """
    path = Path(run) if (Path(run) / "recipe.yaml").is_file() else folder.resolve().parent / run
    source = load_run(path)
    load_weights(model, load_tensors(path / "model.safetensors"), str(path))
    told = {"run": source.name, "recipe": source.recipe.name, "step": source.step, "sha256": source.model_sha256}
    write_atomically(folder / "start.json", json.dumps(told, indent=1).encode())
