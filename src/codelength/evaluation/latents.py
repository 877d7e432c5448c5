"""What the latents of a model carry: KL and active units of each layer, and the aggregate posterior.

The KL of a layer is what its latents cost; near 0 the layer has collapsed onto its prior. A unit is active where its
posterior mean moves with the data, A_u = Var_x(E_q[u | x]) > 0.01 (arXiv:1509.00519, section 5). The aggregate posterior,
q(e) = E_x q(e | x), in the coordinates of the prior's own noise (z = mean + std e), would be N(0, 1) in a model that
samples as it infers: means off 0 and deviations off 1 are places where samples start and data never are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from codelength.evaluation.estimate import evaluation_mode
from codelength.models.latent.base import Gaussian, LatentModel, kl_of_layers
from codelength.randomness import ExampleNoise

ACTIVE = 0.01
COLLAPSED_NATS = 0.05


@dataclass(frozen=True)
class LayerUse:
    """One layer on N data.

    Args:
        layer: Its name.
        kl: Mean KL, nats a datum.
        activity: A_u of each unit, (units,).
        noise_mean, noise_std: Moments of the aggregate posterior of each unit in the prior's noise, (units,).
    """

    layer: str
    kl: float
    activity: np.ndarray
    noise_mean: np.ndarray
    noise_std: np.ndarray

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.activity)

    @property
    def active(self) -> int:
        """Number of active units."""
        return int((self.activity > ACTIVE).sum())

    @property
    def collapsed(self) -> bool:
        """Whether the layer costs and carries next to nothing."""
        return self.kl < COLLAPSED_NATS or self.active == 0


def use_of_layers(
    model: LatentModel, x: Tensor, *, samples: int = 8, seed: int = 0, batch_size: int = 50
) -> list[LayerUse]:
    """What each layer carries on data x, (N, C, H, W), N >= 2, from `samples` draws of each latent.

    The variance of the posterior mean is taken without the noise of its estimate: Var_x of the mean of the draws, less the
    mean variance of the draws over their number.
    """
    kls: dict[str, list[Tensor]] = {layer: [] for layer in model.layers}
    means: dict[str, list[Tensor]] = {layer: [] for layer in model.layers}
    spreads: dict[str, list[Tensor]] = {layer: [] for layer in model.layers}
    noises: dict[str, list[Tensor]] = {layer: [] for layer in model.layers}
    with evaluation_mode(model), torch.inference_mode():
        for start in range(0, len(x), batch_size):
            part = x[start : start + batch_size]
            found = model.infer(part, samples, ExampleNoise(seed, range(start, start + len(part))))
            noise = noise_of_latents(model, found.latents)
            for layer, kl in kl_of_layers(found.weights.terms, model.layers).items():
                z = found.latents[layer].flatten(2).double()  # (samples, B, units)
                kls[layer].append(kl.double().mean(0))
                means[layer].append(z.mean(0))
                spreads[layer].append(z.var(0))
                noises[layer].append(noise[layer].flatten(2).double().flatten(0, 1))
    return [
        LayerUse(
            layer,
            float(torch.cat(kls[layer]).mean()),
            (torch.cat(means[layer]).var(0) - torch.cat(spreads[layer]).mean(0) / samples).cpu().numpy(),
            torch.cat(noises[layer]).mean(0).cpu().numpy(),
            torch.cat(noises[layer]).std(0).cpu().numpy(),
        )
        for layer in model.layers
    ]


def noise_of_latents(model: LatentModel, latents: dict[str, Tensor]) -> dict[str, Tensor]:
    """The prior's noise that would have given these latents, layer -> (k, B, *shape)."""
    k, batch = next(iter(latents.values())).shape[:2]
    noise: dict[str, Tensor] = {}

    def choose(layer: str, prior: Gaussian) -> Tensor:
        z = latents[layer].flatten(0, 1)
        noise[layer] = prior.noise_of(z).unflatten(0, (k, batch))
        return z

    model.generate(k * batch, choose)
    return noise
