"""The code lengths by which weights are selected."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from codelength.data.dataset import Split
from codelength.errors import TrainingError
from codelength.evaluation.estimate import per_example_nats
from codelength.randomness import make_generator
from codelength.training.batches import is_real, take
from codelength.training.objective import objective


def code_lengths(
    model: Any, split: Split, indices: np.ndarray | None, batch_size: int, *, lockstep: bool = False
) -> np.ndarray:
    """Code length of each datum at `indices` (of all by default) with one sample and one seed, nats, (N,) float64.

    Integers are scored as `evaluate` scores them, by all processes together; `lockstep`: see `per_example_nats`. Real data have a negative log density instead, which no record holds.

    Raises:
        EvaluationError: A code length is NaN or infinite.
        TrainingError: So is a negative log density.
    """
    if not is_real(split):
        return per_example_nats(model, split, batch_size=batch_size, indices=indices, lockstep=lockstep).code_length
    indices = np.arange(len(split)) if indices is None else indices
    nats = []
    with torch.no_grad():
        for start in range(0, len(indices), batch_size):
            batch = take(split, indices[start : start + batch_size], model.conditioning).to(model.device)
            nats.append(objective(model, batch.x, make_generator("selection", start), batch.conditions).double().cpu())
    values = torch.cat(nats).numpy()
    bad = indices[~np.isfinite(values)]
    if len(bad):
        raise TrainingError(
            f"the log density of validation datum {bad[0]} is not finite ({len(bad)} of {len(indices)} data)"
        )
    return values
