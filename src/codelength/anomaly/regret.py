"""Latent regret: what a latent model gains when its posterior is fitted to one datum alone.

The encoder's posterior is good where there were data. Elsewhere a posterior fitted to the datum itself explains it far better; the
gain in ELBO, regret(x) = max_q ELBO(x; q) − ELBO(x; encoder), tells so (Xiao et al., arXiv:2003.02977, eq. (5)).
Departure: q is a diagonal Gaussian in the coordinates of the prior's noise (z = mean + std e), for any number of layers.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from codelength import randomness
from codelength.errors import UsageError
from codelength.evaluation.estimate import evaluation_mode
from codelength.evaluation.latents import noise_of_latents
from codelength.models.base import LikelihoodModel
from codelength.models.latent.base import LatentModel
from codelength.randomness import ExampleNoise

STEPS, DRAWS, RATE = 30, 2, 0.05
STARTING_DRAWS = 16


def latent_regret(
    model: LikelihoodModel, x: Tensor, *, steps: int = STEPS, seed: int = 0, batch_size: int = 50
) -> np.ndarray:
    """Regret of each datum, nats, (N,) float64.

    Args:
        model: A latent model.
        x: Integers of its space, (N, C, H, W).
        steps: Steps of Adam on mean and spread of each datum's q, from the encoder's own.
        seed: Seed of the draws.
        batch_size: Data fitted together; each has its own q, and its own noise.

    Raises:
        UsageError: The model has no Gaussian latents.

    Cost: `steps` passes forward and back of the decoder with 2 draws a datum, besides two ELBOs of 16 draws.
    """
    if not isinstance(model, LatentModel):
        raise UsageError(f"{type(model).__name__} has no latents to fit; regret wants a latent model such as vae")
    parts = []
    with evaluation_mode(model):
        for start in range(0, len(x), batch_size):
            part = x[start : start + batch_size].to(model.device)
            parts.append(_of_batch(model, part, np.arange(start, start + len(part)), steps, seed))
    return np.concatenate(parts)


def _of_batch(model: LatentModel, x: Tensor, examples: np.ndarray, steps: int, seed: int) -> np.ndarray:
    with torch.no_grad():
        found = model.infer(x, STARTING_DRAWS, ExampleNoise(seed, examples))
        before = found.weights.total.double().mean(0)
        noise = noise_of_latents(model, found.latents)
    means = {layer: e.mean(0).requires_grad_() for layer, e in noise.items()}
    log_stds = {layer: e.std(0).clamp(min=1e-3).log().requires_grad_() for layer, e in noise.items()}
    parameters = [*means.values(), *log_stds.values()]
    optimizer = torch.optim.Adam(parameters, lr=RATE)
    stream = ExampleNoise(seed + 1, examples)
    for _ in range(steps):
        loss = -_elbo(model, x, means, log_stds, DRAWS, stream).sum()
        # Gradients of q alone: the model's weights are not touched.
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        optimizer.step()
    with torch.no_grad():
        after = _elbo(model, x, means, log_stds, STARTING_DRAWS, ExampleNoise(seed + 2, examples))
    return (after.double() - before).cpu().numpy()


def _elbo(
    model: LatentModel,
    x: Tensor,
    means: dict[str, Tensor],
    log_stds: dict[str, Tensor],
    draws: int,
    stream: ExampleNoise,
) -> Tensor:
    """E_q log P(x | e) − KL(q ‖ N(0, I)), (B,), the KL in closed form."""
    drawn, kl = {}, torch.zeros(len(x), device=x.device, dtype=model.dtype)
    for layer, mean in means.items():
        log_std = log_stds[layer]
        eps = randomness.normal((draws, *mean.shape), stream, device=mean.device, dtype=mean.dtype)
        drawn[layer] = (mean + log_std.exp() * eps).flatten(0, 1)
        kl = kl + (0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std).flatten(1).sum(1)
    repeated = x.repeat(draws, *([1] * (x.ndim - 1)))
    log_likelihood = model.log_likelihood(repeated, drawn).unflatten(0, (draws, len(x))).mean(0)
    assert math.isfinite(float(kl.sum().detach()))
    return log_likelihood - kl
