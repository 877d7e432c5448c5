"""Quantization-aware fine-tuning: training on, with rounding simulated and gradients passed straight through it.

Reference: Bengio, Léonard & Courville, "Estimating or propagating gradients through stochastic neurons", arXiv:1308.3432, section 4
(straight-through estimator).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from codelength.data.dataset import Split
from codelength.errors import TrainingError
from codelength.integer.rounding import Activation, simulate_weight
from codelength.models.base import LikelihoodModel, can
from codelength.randomness import make_generator
from codelength.training.batches import Batches
from codelength.units import bits_per_dim

REPORT_EVERY = 100
WARMUP = 20
MAX_GRADIENT = 1.0


@dataclass(frozen=True)
class FineTuning:
    """How to fine-tune.

    Args:
        steps: Optimizer steps.
        batch_size: Data a step.
        learning_rate: Of AdamW, warmed up and then lowered to 0 by a cosine.
        seed: Of the data's order.
        flip: Mirror images at random, as the float model's training did.
    """

    steps: int
    batch_size: int = 64
    learning_rate: float = 3e-5
    seed: int = 0
    flip: bool = False


class _RoundedWeight(nn.Module):
    def __init__(self, activation: Activation) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, weight: Tensor) -> Tensor:
        return simulate_weight(weight, self.activation)


@contextmanager
def simulated_rounding(model: nn.Module, activations: dict[str, Activation]) -> Iterator[None]:
    """The layers named in `activations` compute with rounded weights and inputs; afterwards they are as before."""
    layers = dict(model.named_modules())
    hooks = []
    for name, activation in activations.items():
        layer = layers[name]
        parametrize.register_parametrization(layer, "weight", _RoundedWeight(activation))

        def round_inputs(_: nn.Module, given: tuple[Any, ...], activation: Activation = activation) -> tuple[Any, ...]:
            x = given[0]
            if x.ndim == 4:  # (B, C, H, W): the channels of a convolution come second
                return (activation.simulate(x.movedim(1, -1)).movedim(-1, 1), *given[1:])
            return (activation.simulate(x), *given[1:])

        hooks.append(layer.register_forward_pre_hook(round_inputs))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for name in activations:
            parametrize.remove_parametrizations(layers[name], "weight", leave_parametrized=False)


def finetune(
    model: LikelihoodModel,
    activations: dict[str, Activation],
    split: Split,
    tuning: FineTuning,
    say: Callable[[str], None],
) -> None:
    """Train the model on, in place, with rounding simulated.

    Raises:
        TrainingError: The loss is not finite.
    """
    batches = Batches(
        split, min(tuning.batch_size, len(split)), tuning.seed, conditioning=model.conditioning, flip=tuning.flip
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=tuning.learning_rate, weight_decay=0.0)
    recent = 0.0
    with simulated_rounding(model, activations):
        model.train()
        for step in range(1, tuning.steps + 1):
            warm = min(1.0, step / WARMUP)
            rate = tuning.learning_rate * warm * (1 + math.cos(math.pi * step / (tuning.steps + 1))) / 2
            for group in optimizer.param_groups:
                group["lr"] = rate
            batch = batches[step]
            nats = _objective(model, batch.x, batch.conditions, make_generator(tuning.seed, "finetune", step)).mean()
            if not bool(torch.isfinite(nats)):
                raise TrainingError(f"fine-tuning: the loss is {nats.item()} in step {step}; lower the learning rate")
            optimizer.zero_grad()
            (nats / model.space.num_dims).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT)
            optimizer.step()
            recent += float(nats.detach())
            if step % REPORT_EVERY == 0:
                say(f"step {step}: {bits_per_dim(recent / REPORT_EVERY, model.space.num_dims):.4f} bits/dim")
                recent = 0.0
        model.eval()


def _objective(model: Any, x: Tensor, conditions: dict[str, Tensor], generator: torch.Generator) -> Tensor:
    if can(model, "training_objective"):
        loss: Tensor = model.training_objective(x, generator, **conditions)
        return loss
    nats: Tensor = -model.log_prob(x, **conditions)
    return nats
