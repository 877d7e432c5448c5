"""Hierarchical VAE: weights with the right mean in both orders of inference; do() against conditioning."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from codelength.errors import UsageError
from codelength.models.latent.base import Choose, Gaussian, Inference, LatentModel, kl_of_layers
from codelength.models.latent.hierarchical_vae import HierarchicalVAE
from codelength.models.registry import build_model
from codelength.pixels import Bernoulli, PixelDistribution
from codelength.randomness import Noise
from codelength.space import Space

TINY = Space.image(1, 2, 2, 2)
EVERY = torch.tensor(list(itertools.product(range(2), repeat=4))).reshape(-1, 1, 2, 2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny(inference: str) -> HierarchicalVAE:
    torch.manual_seed(0)
    model = HierarchicalVAE(TINY, latents=(1, 1), hidden=4, depth=1, inference=inference).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for encoder in model.encoders:
            encoder[-1].weight.mul_(0.3)  # type: ignore[index]
            encoder[-1].bias.copy_(torch.tensor([0.0, 0.4]))  # type: ignore[index]
    return model


def exact_log_prob(model: HierarchicalVAE) -> Tensor:
    e = torch.linspace(-6, 6, 61, dtype=torch.float64)
    grid = torch.cartesian_prod(e, e)
    mass = torch.exp(-0.5 * grid.square().sum(1)) * (e[1] - e[0]) ** 2 / (2 * torch.pi)
    noise = {"z1": grid[:, :1], "z2": grid[:, 1:]}
    with torch.no_grad():
        distribution = model.generate(len(grid), lambda layer, prior: prior.draw(noise[layer]))
        rows = [distribution.log_prob(x.expand(len(grid), -1, -1, -1)) for x in EVERY]
    return torch.stack([(mass * row.exp()).sum().log() for row in rows])


@pytest.mark.parametrize("inference", ["top_down", "bottom_up"])
def test_weights_are_unbiased(inference: str) -> None:
    model = tiny(inference)
    truth = exact_log_prob(model)
    assert abs(truth.exp().sum() - 1) < 1e-7
    with torch.no_grad():
        terms = model.log_weights(EVERY, 6_000, generator(1)).terms
    ratio = (torch.stack(list(terms.values())).sum(0) - truth).exp()
    assert ((ratio.mean(0) - 1).abs() < 4.5 * ratio.std(0) / 6_000**0.5).all()
    for missing in terms:  # negative control
        wrong = (sum(value for name, value in terms.items() if name != missing) - truth).exp()
        assert ((wrong.mean(0) - 1).abs() > 4.5 * wrong.std(0) / 6_000**0.5).any(), missing
    kls = kl_of_layers(terms, model.layers)
    assert list(kls) == ["z1", "z2"]
    torch.testing.assert_close(terms["log_likelihood"] - sum(kls.values()), sum(terms.values()))


def test_bottom_up_layers_see_the_layer_below_only() -> None:
    """What Bit-Swap needs: q(z1 | z2) without x."""
    model, z = tiny("bottom_up"), torch.randn(3, 1).double()
    assert model._gaussian(model.encoders[1], z).mean.shape == (3, 1)
    assert model.encoders[1][1].in_features == 1  # type: ignore[index,union-attr]


def test_options_are_checked() -> None:
    with pytest.raises(UsageError, match="did you mean 'top_down'"):
        build_model("hierarchical_vae", TINY, inference="topdown")
    with pytest.raises(UsageError, match="latents"):
        build_model("hierarchical_vae", TINY, latents=[])


class Confounded(LatentModel):
    """z1 ~ N(0, 1), z2 | z1 ~ N(a z1, s²), P(x_j = 1 | z) = Φ(b_j z2 + c_j z1): z1 moves both z2 and x."""

    a, s = 1.2, 0.7

    def __init__(self) -> None:
        super().__init__(TINY)
        self.layers = {"z1": (1,), "z2": (1,)}
        self.register_buffer("b", torch.tensor([0.5, -0.8, 1.0, 0.2], dtype=torch.float64))
        self.register_buffer("c", torch.tensor([1.5, 1.0, -1.5, 0.9], dtype=torch.float64))

    def generate(self, n: int, choose: Choose) -> PixelDistribution:
        zero = torch.zeros(n, 1, dtype=torch.float64)
        z1 = choose("z1", Gaussian(zero, zero))
        z2 = choose("z2", Gaussian(self.a * z1, torch.full_like(z1, math.log(self.s))))
        p = torch.special.ndtr(self.b * z2 + self.c * z1).clamp(1e-15, 1 - 1e-15)
        return Bernoulli(torch.logit(p).view(n, 1, 2, 2))

    def infer(self, x: Tensor, k: int, generator: Noise) -> Inference:
        raise NotImplementedError

    def after_doing(self, v: float) -> Tensor:
        """P(x_j = 1 | do(z2 = v)): z1 stays N(0, 1)."""
        return torch.special.ndtr(self.b * v / (1 + self.c**2).sqrt())

    def after_seeing(self, v: float) -> Tensor:
        """P(x_j = 1 | z2 = v): z1 is believed to be N(a v / (a² + s²), s² / (a² + s²))."""
        total = self.a**2 + self.s**2
        return torch.special.ndtr((self.b + self.c * self.a / total) * v / (1 + self.c**2 * self.s**2 / total).sqrt())


@pytest.mark.parametrize("key", ["z2", "z2[0]"])
def test_do_agrees_with_the_known_answer_and_conditioning_does_not(key: str) -> None:
    model, n, v = Confounded(), 20_000, 1.0
    done = model.sample(n, generator(), do={key: v}).flatten(1).double()
    error = (done.var(0) / n).sqrt()
    assert ((done.mean(0) - model.after_doing(v)).abs() < 3 * error).all()
    assert ((done.mean(0) - model.after_seeing(v)).abs() > 10 * error).any()
    # Conditioning by rejection, from the same model, gives the other answer.
    seen: dict[str, Tensor] = {}

    def keep(layer: str, prior: Gaussian) -> Tensor:
        z = prior.draw(torch.randn(400_000, 1, generator=generator(len(seen)), dtype=torch.float64))
        seen[layer] = z
        return z

    drawn = model.generate(400_000, keep).sample(generator=generator(9)).flatten(1).double()
    near = drawn[(seen["z2"][:, 0] - v).abs() < 0.05]
    error = (near.var(0) / len(near)).sqrt()
    assert ((near.mean(0) - model.after_seeing(v)).abs() < 3.5 * error + 2e-3).all()
    assert ((near.mean(0) - model.after_doing(v)).abs() > 10 * error).any()


def test_doing_leaves_the_rest_as_it_was() -> None:
    """The top is drawn as ever whatever is set below it; a tensor sets each datum its own value."""
    model = Confounded()
    values = torch.tensor([[-9.0], [9.0], [9.0]])
    x = model.sample(3, generator(1), do={"z2": values})
    assert x.shape == (3, 1, 2, 2)
    assert torch.equal(model.sample(3, generator(1), do={"z2": values}), x)
    top = model.sample(2000, generator(2), do={"z1": 0.0, "z2": 0.0}).double().mean()
    assert abs(top - 0.5) < 0.02


def test_unknown_latents_are_refused() -> None:
    model = Confounded()
    with pytest.raises(UsageError, match="did you mean"):
        model.sample(1, generator(), do={"z3": 0.0})
    with pytest.raises(UsageError, match=r"units 0\.\.0"):
        model.sample(1, generator(), do={"z1[4]": 0.0})
    with pytest.raises(UsageError, match="shape"):
        model.sample(2, generator(), do={"z1": torch.zeros(3, 1)})
