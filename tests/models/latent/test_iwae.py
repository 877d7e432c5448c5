"""IWAE: the objective is the K-sample bound, and both of its gradients have one mean."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from codelength.functional import log_mean_exp
from codelength.models.latent.vae import VAE, iwae
from codelength.models.registry import build_model
from codelength.space import Space

SPACE = Space.image(1, 2, 2, 2)
X = torch.tensor([[[[0, 1], [1, 1]]], [[[1, 0], [0, 0]]]])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def model(samples: int = 4, *, doubly: bool = False) -> VAE:
    torch.manual_seed(0)
    built = iwae(SPACE, latents=2, filters=4, blocks=1, samples=samples, doubly_reparametrized=doubly).double()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return built


def gradient(built: VAE, part: nn.Module, repeats: int, seed: int) -> torch.Tensor:
    """Gradients of the mean objective of a large batch, one for each of ten parts, (10, parameters)."""
    rows = []
    for i in range(10):
        loss = built.training_objective(X.repeat(repeats, 1, 1, 1), generator(10 * seed + i)).mean()
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(part.parameters()))]))
    return torch.stack(rows)


@pytest.mark.parametrize("doubly", [False, True])
def test_the_objective_is_minus_the_bound(doubly: bool) -> None:
    built = model(doubly=doubly)
    weights = built.log_weights(X, 4, generator(3)).total
    torch.testing.assert_close(built.training_objective(X, generator(3)), -log_mean_exp(weights))


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_both_gradients_have_one_mean(part: str) -> None:
    plain, doubly = (gradient(m, getattr(m, part), 1000, seed) for seed, m in enumerate((model(), model(doubly=True))))
    error = ((plain.var(0) + doubly.var(0)) / 10).sqrt()
    assert ((plain.mean(0) - doubly.mean(0)).abs() <= 5 * error + 1e-12).all()
    assert plain.mean(0).abs().max() > 10 * error.max(), "the means are not all noise"


def test_a_weight_taken_once_would_be_seen() -> None:
    """Negative control: with log q held but the path through z weighted once, the encoder's gradient has another mean."""
    plain, built = model(), model(doubly=True)

    def wrong(x: torch.Tensor, g: torch.Generator) -> torch.Tensor:
        log_weights = built._infer(x, 4, g, hold_q=True).weights.total
        return -(torch.softmax(log_weights.detach(), 0) * log_weights).sum(0)

    right = gradient(plain, plain.encoder, 1000, 0)
    built.training_objective = wrong  # type: ignore
    other = gradient(built, built.encoder, 1000, 1)
    error = ((right.var(0) + other.var(0)) / 10).sqrt()
    assert ((right.mean(0) - other.mean(0)).abs() > 6 * error).any()


def test_where_the_encoder_is_the_posterior_the_doubly_reparametrized_gradient_has_no_noise() -> None:
    """A decoder that ignores z and an encoder at the prior: nothing to learn, which only this gradient shows."""
    norms = []
    for built in (model(), model(doubly=True)):
        with torch.no_grad():
            for layer in (built.encoder[-1], built.decoder[0][1]):
                assert isinstance(layer, nn.Linear)
                layer.weight.zero_()
                layer.bias.zero_()
        norms.append(gradient(built, built.encoder, 50, 7).norm())
    assert norms[0] > 1e-2
    assert norms[1] < 1e-12


def test_one_sample_is_the_vae() -> None:
    built = model(1)
    assert torch.equal(built.training_objective(X, generator()), -built.log_weights(X, 1, generator()).total[0])
    with pytest.raises(ValueError, match="samples=0"):
        iwae(SPACE, samples=0)
    assert build_model("iwae", SPACE).samples == 50
