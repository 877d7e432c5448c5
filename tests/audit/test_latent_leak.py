"""A decoder that sees x: its "likelihood" is no probability, and the audit says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from codelength import Space
from codelength.audit import audit
from codelength.models.latent.base import Inference, LogWeights
from codelength.models.latent.vae import VAE
from codelength.randomness import Noise

SPACE = Space.image(1, 3, 3, 2)


class Leaking(VAE):
    """The decoder's logits get a little of the very pixels they are to explain."""

    strength = 1.0

    def infer(self, x: Tensor, k: int, generator: Noise) -> Inference:
        honest = super().infer(x, k, generator)
        z = honest.latents["z"].flatten(0, 1)
        levels = x.repeat(k, 1, 1, 1)
        leaked = self.likelihood(self.decoder(z) + self.strength * (2.0 * levels - 1))
        terms = {**honest.weights.terms, "log_likelihood": leaked.log_prob(levels).unflatten(0, (k, len(x)))}
        return Inference(honest.latents, LogWeights(terms))


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_a_decoder_that_sees_the_data_fails(strength: float, make_dataset: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    model = Leaking(SPACE, latents=2, network="dense", filters=4).eval()
    model.strength = strength
    data = make_dataset(model.sample(180, torch.Generator().manual_seed(0)), SPACE)
    verdicts = {v.probe: v for v in audit(model, data, budget=1, fresh_process=False)}
    failed = {probe for probe, v in verdicts.items() if v.status == "fail"}
    assert failed == set() if strength == 0 else {"P1", "P7"} <= failed
    assert verdicts["P7"].evidence["net_coded_bits"] > 0
