"""Importance-weighted bounds of a VAE in pythae."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from serve import serve
from torch import nn


def dense(weights: list[np.ndarray]) -> nn.Sequential:
    """Linear layers of these weights and biases with SiLU between."""
    layers: list[nn.Module] = []
    for weight, bias in zip(weights[::2], weights[1::2], strict=True):
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))
        layers += [layer, nn.SiLU()]
    return nn.Sequential(*layers[:-1])


class Encoder(BaseEncoder):
    """Mean and log variance; log std within ±5 as in the model it is compared with."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> Any:
        mean, raw = self.network(2 * x.flatten(1) - 1).chunk(2, dim=1)
        return ModelOutput(embedding=mean, log_covariance=10 * torch.tanh(raw / 5))


class Decoder(BaseDecoder):
    """Probabilities of a 1."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: torch.Tensor) -> Any:
        return ModelOutput(reconstruction=torch.sigmoid(self.network(z)))


def prepare(options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Options: file (.npz: x, noise of the check (k, B, latents), weights encoder_0 ..., decoder_0 ...), samples, threads."""
    torch.set_num_threads(options["threads"])
    torch.manual_seed(0)
    stored = np.load(options["file"])

    def network(part: str) -> nn.Sequential:
        names = sorted((n for n in stored.files if n.startswith(part)), key=lambda n: int(n.split("_")[1]))
        return dense([stored[name] for name in names])

    x, noise = torch.from_numpy(stored["x"]).float(), torch.from_numpy(stored["noise"])
    config = VAEConfig(input_dim=tuple(x.shape[1:]), latent_dim=noise.shape[2], reconstruction_loss="bce")
    model = VAE(config, Encoder(network("encoder")), Decoder(network("decoder"))).eval()

    def work() -> None:
        with torch.inference_mode():
            model.get_nll(x, n_samples=options["samples"])

    own, given = model._sample_gauss, iter(noise.unbind(1))
    model._sample_gauss = lambda mean, std: (lambda e: (mean + std * e, e))(next(given))
    with torch.inference_mode():
        nats = float(model.get_nll(x, n_samples=len(noise), batch_size=len(noise)))
    model._sample_gauss = own
    return work, {"mean_log_prob": nats}


if __name__ == "__main__":
    serve(prepare)
