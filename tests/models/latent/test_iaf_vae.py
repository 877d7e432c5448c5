"""IAF-VAE: the flow's log-determinant and causality, the bound, free bits."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from codelength.errors import UsageError
from codelength.models.latent.iaf_vae import IAFVAE
from codelength.models.latent.inverse_autoregressive import InverseAutoregressive
from codelength.models.registry import build_model
from codelength.space import Space

TINY = Space.image(1, 2, 2, 2)
EVERY = torch.tensor(list(itertools.product(range(2), repeat=4))).reshape(-1, 1, 2, 2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flow(*, backwards: bool = False) -> InverseAutoregressive:
    torch.manual_seed(1)
    step = InverseAutoregressive(2, 6, backwards=backwards).double()
    with torch.no_grad():
        for parameter in step.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return step


def jacobian(step: InverseAutoregressive, z: Tensor, context: Tensor) -> Tensor:
    size = z.numel()
    return torch.autograd.functional.jacobian(lambda v: step(v, context)[0], z).reshape(size, size)


@pytest.mark.parametrize("backwards", [False, True])
def test_log_determinant_is_the_jacobians(backwards: bool) -> None:
    step, z, context = flow(backwards=backwards), torch.randn(1, 2, 3, 3).double(), torch.randn(1, 6, 3, 3).double()
    exact = torch.linalg.slogdet(jacobian(step, z, context)).logabsdet
    torch.testing.assert_close(step(z, context)[1].sum(), exact, rtol=1e-10, atol=1e-10)


def test_each_latent_sees_those_before_it_only() -> None:
    step, z, context = flow(), torch.randn(1, 2, 3, 3).double(), torch.randn(1, 6, 3, 3).double()
    order = torch.arange(18).view(2, 3, 3)  # index of a latent, channels first, as the Jacobian has it
    rank = order.permute(1, 2, 0).flatten().argsort()  # coded site by site, channels inside
    place = rank[order.flatten()]
    matrix = jacobian(step, z, context)
    later = place[None, :] > place[:, None]
    assert (matrix[later] == 0).all()
    assert (matrix.diagonal() > 0).all()
    assert (matrix[~later & ~torch.eye(18, dtype=torch.bool)].abs() > 1e-9).sum() > 60


def test_an_unmasked_network_would_be_seen() -> None:
    step, z, context = flow(), torch.randn(1, 2, 3, 3).double(), torch.randn(1, 6, 3, 3).double()
    step.first.mask = None
    exact = torch.linalg.slogdet(jacobian(step, z, context)).logabsdet
    assert (step(z, context)[1].sum() - exact).abs() > 1e-4


def tiny(**options: object) -> IAFVAE:
    torch.manual_seed(0)
    model = IAFVAE(TINY, latents=1, filters=4, resolutions=1, **{"blocks": 2, "iaf": 1, **options}).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for block in model.blocks:  # a posterior wide enough for the weights to have a finite variance
            block.up_in.weight.mul_(0.5)  # type: ignore[union-attr,operator]
            block.up_in.bias[1] = 0.3 + 0.13 * len(block.flows)  # type: ignore[union-attr,operator,index,arg-type]
    return model


def exact_log_prob(model: IAFVAE) -> Tensor:
    """log P of all 16 images by a grid over the noise of two latents, (16,)."""
    e = torch.linspace(-6, 6, 61, dtype=torch.float64)
    grid = torch.cartesian_prod(e, e)
    mass = torch.exp(-0.5 * grid.square().sum(1)) * (e[1] - e[0]) ** 2 / (2 * torch.pi)
    noise = {"z1": grid[:, :1].reshape(-1, 1, 1, 1), "z2": grid[:, 1:].reshape(-1, 1, 1, 1)}
    with torch.no_grad():
        distribution = model.generate(len(grid), lambda layer, prior: prior.draw(noise[layer]))
        rows = [distribution.log_prob(x.expand(len(grid), -1, -1, -1)) for x in EVERY]
    return torch.stack([(mass * row.exp()).sum().log() for row in rows])


@pytest.mark.parametrize("iaf", [0, 1, 2])
def test_weights_are_unbiased(iaf: int) -> None:
    """The mean weight is P(x) summed over a grid of latents: prior, posterior, flows and likelihood belong together."""
    model = tiny(iaf=iaf)
    truth = exact_log_prob(model)
    assert abs(truth.exp().sum() - 1) < 1e-7
    with torch.no_grad():
        ratio = (model.log_weights(EVERY, 6_000, generator(1)).total - truth).exp()
    assert ((ratio.mean(0) - 1).abs() < 4.5 * ratio.std(0) / 6_000**0.5).all()


@pytest.mark.parametrize("missing", ["log_prior_z1", "minus_log_q_z2", "log_likelihood"])
def test_a_missing_term_would_be_seen(missing: str) -> None:
    model = tiny()
    with torch.no_grad():
        terms = model.log_weights(EVERY, 6000, generator(1)).terms
    ratio = (sum(value for name, value in terms.items() if name != missing) - exact_log_prob(model)).exp()
    assert ((ratio.mean(0) - 1).abs() > 4.5 * ratio.std(0) / 6000**0.5).sum() > 3


def test_free_bits_are_free_up_to_lambda() -> None:
    costs = [tiny(free_bits=bits).training_objective(EVERY, generator()).mean() for bits in (0.0, 1e-9, 0.3, 5.0)]
    terms = tiny().log_weights(EVERY, 1, generator()).terms
    assert costs[0] <= costs[1] + 1e-6 <= costs[2] + 1e-6
    torch.testing.assert_close(costs[0], -tiny().log_weights(EVERY, 1, generator()).total.mean())
    torch.testing.assert_close(costs[3], -terms["log_likelihood"].mean() + 2 * 5.0)


def test_a_channel_under_lambda_feels_no_pull_to_the_prior() -> None:
    model = tiny(free_bits=50.0)
    model.training_objective(EVERY, generator()).mean().backward()
    prior_rows = model.blocks[1].down_in.weight.grad[:2]  # type: ignore[union-attr,index]
    assert prior_rows.abs().max() == 0, "the top prior enters the KL alone"


def test_layers_and_options_are_checked() -> None:
    model = build_model("iaf_vae", Space.image(1, 8, 8, 2), latents=3, filters=4, resolutions=2, blocks=2)
    assert model.layers == {"z1": (3, 2, 2), "z2": (3, 2, 2), "z3": (3, 4, 4), "z4": (3, 4, 4)}
    assert model.sample(2, generator()).shape == (2, 1, 8, 8)
    with pytest.raises(UsageError, match="multiples of 4"):
        build_model("iaf_vae", Space.image(1, 6, 6, 2))
    with pytest.raises(UsageError, match="iaf=-1"):
        build_model("iaf_vae", Space.image(1, 8, 8, 2), iaf=-1)
