"""What training minimizes, for every family: a code length in nats, one value a datum."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from codelength.errors import UsageError
from codelength.models.base import can
from codelength.randomness import SharedNoise, uniform


def objective(
    model: Any,
    x: Tensor,
    generator: torch.Generator | SharedNoise,
    conditions: dict[str, Tensor] | None = None,
    intensity: Tensor | None = None,
) -> Tensor:
    """Objective of each datum, nats, (B,); the trainer takes the mean.

    In this order: the model's own `training_objective`; the closed-form expectation over binarizations, where data are
    dynamically binarized and the model has it; −log P(x); a one-sample bound on −log P(x).

    Args:
        model: A `LikelihoodModel`.
        x: Data, (B, *space.shape).
        generator: Source of all noise of this step.
        conditions: Conditions the model takes, name -> (B,).
        intensity: Probability of a 1 of each dim where data are dynamically binarized, (B, *space.shape). Unless the
            expectation is taken, it replaces x by a fresh binarization.

    Raises:
        UsageError: The model can neither score nor bound a datum.
    """
    conditions = conditions or {}
    own = can(model, "training_objective")
    if intensity is not None:
        if not own and can(model, "expected_log_prob"):
            return -model.expected_log_prob(intensity, **conditions)
        x = (uniform((1, *intensity.shape), generator, device=intensity.device)[0] < intensity).long()
    if own:
        return model.training_objective(x, generator, **conditions)
    if can(model, "log_prob"):
        return -model.log_prob(x, **conditions)
    if can(model, "log_weights"):
        return -model.log_weights(x, 1, generator, **conditions).total[0]
    raise UsageError(
        f"{type(model).__name__} has none of training_objective, log_prob and log_weights; a model needs one to be trained"
    )
