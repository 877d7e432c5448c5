"""Models that are estimated from all training data at once, or have nothing to learn: no steps, the same run."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from codelength.data.dataset import DataSet, Split
from codelength.models.base import can, num_parameters
from codelength.recipe import Recipe
from codelength.run import save_run_weights
from codelength.training.batches import choose, data_mark, take
from codelength.training.checkpoint import Checkpoint, save_checkpoint
from codelength.training.metrics import Records, peak_memory_mib
from codelength.training.model import fresh_model
from codelength.training.progress import Talk
from codelength.training.selection import code_lengths

SCORED_TRAINING_DATA = 10_000


def fit(
    recipe: Recipe, data: DataSet, folder: Path, device: torch.device, talk: Talk, selection: tuple[str, Split]
) -> None:
    """Fit the recipe's model on the whole training split and write the run: one step, one line a split.

    The train line is scored on at most 10,000 training data.
    """
    model, train = fresh_model(recipe, data, device), data.split("train")
    num_dims = None if model.measure == "density" else math.prod(train.x.shape[1:])
    records = Records(folder, num_dims, batch_size=len(train))
    if can(model, "fit"):
        batch = take(train, slice(None), model.conditioning)
        model.fit(batch.x.to(device), **batch.conditions)
    model.eval()
    save_run_weights(folder, model.state_dict(), "raw", 1)
    name, split = selection
    lines = [(name, split, choose(split, recipe.training.validation_examples, recipe.training.seed))]
    if name == "validation":
        lines.insert(0, ("train", train, choose(train, SCORED_TRAINING_DATA, recipe.training.seed)))
    for name, split, indices in lines:
        nats = float(np.mean(code_lengths(model, split, indices, recipe.evaluation.batch_size)))
        talk.logged(records.line(1, name, nats))
    summary = {"peak_memory_mib": peak_memory_mib(), "parameters": num_parameters(model), "selected_step": 1}
    records.line(1, "end", nats, **summary, weights="raw")
    fields = {"complete": True, "data": data_mark(train), "records": records.state()}
    save_checkpoint(folder / "state", Checkpoint(1, {"model": model.state_dict()}, fields))
    records.close()
