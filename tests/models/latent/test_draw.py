"""DRAW: weights with the right mean, canvases that add up, decoders of colour."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from codelength.errors import UsageError
from codelength.models.latent.draw import DRAW
from codelength.models.registry import build_model
from codelength.space import Space

TINY = Space.image(1, 2, 2, 2)
EVERY = torch.tensor(list(itertools.product(range(2), repeat=4))).reshape(-1, 1, 2, 2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def tiny() -> DRAW:
    torch.manual_seed(0)
    model = DRAW(TINY, steps=2, latents=1, hidden=4, read=2, write=2).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
        model.posterior.bias[1] = 0.3  # wide: weights of finite variance
    return model


def exact_log_prob(model: DRAW) -> Tensor:
    """log P of all 16 images by a grid over both latents."""
    e = torch.linspace(-6, 6, 61, dtype=torch.float64)
    grid = torch.cartesian_prod(e, e)
    mass = torch.exp(-0.5 * grid.square().sum(1)) * (e[1] - e[0]) ** 2 / (2 * torch.pi)
    noise = {"z1": grid[:, :1], "z2": grid[:, 1:]}
    with torch.no_grad():
        distribution = model.generate(len(grid), lambda layer, prior: prior.draw(noise[layer]))
        rows = [distribution.log_prob(x.expand(len(grid), -1, -1, -1)) for x in EVERY]
    return torch.stack([(mass * row.exp()).sum().log() for row in rows])


def test_weights_are_unbiased(tiny: DRAW) -> None:
    truth = exact_log_prob(tiny)
    assert abs(truth.exp().sum() - 1) < 1e-7
    with torch.no_grad():
        terms = tiny.log_weights(EVERY, 6_000, generator(1)).terms
    assert list(terms) == ["log_likelihood", *(f"{t}_z{i}" for i in (1, 2) for t in ("log_prior", "minus_log_q"))]
    ratio = (torch.stack(list(terms.values())).sum(0) - truth).exp()
    assert ((ratio.mean(0) - 1).abs() < 4.5 * ratio.std(0) / 6_000**0.5).all()
    for missing in terms:  # negative control
        wrong = (sum(value for name, value in terms.items() if name != missing) - truth).exp()
        assert ((wrong.mean(0) - 1).abs() > 4.5 * wrong.std(0) / 6_000**0.5).any(), missing


def test_the_last_canvas_is_what_is_scored(tiny: DRAW) -> None:
    noise = tiny.draw_noise(16, generator())
    canvases = tiny.canvases(16, lambda layer, prior: prior.draw(noise[layer]))
    assert len(canvases) == 3
    assert torch.equal(tiny.likelihood(canvases[-1]).log_prob(EVERY), tiny.log_likelihood(EVERY, noise))
    assert all((a - b).abs().max() > 1e-3 for a, b in itertools.pairwise(canvases))


@pytest.mark.parametrize(
    ("space", "options"),
    [
        (Space.image(3, 6, 6, 2).with_binarization("dynamic"), {"pixels": "bernoulli"}),  # per-channel emission
        (Space.image(3, 6, 6), {"components": 3}),  # discretized logistics
        (Space.image(1, 6, 6, 5), {"pixels": "categorical"}),
        (Space.image(1, 6, 6, 2), {"read": 0, "write": 0}),
    ],
)
def test_it_learns_what_it_sees(space: Space, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    model = build_model("draw", space, steps=3, latents=2, hidden=12, **options)
    x = torch.stack([torch.zeros(space.sizes), torch.full(space.sizes, space.levels - 1)]).long().repeat(8, 1, 1, 1)
    optimizer = torch.optim.Adam(model.parameters(), 3e-2)
    costs = []
    for step in range(30):
        loss = -model.log_weights(x, 1, generator(step)).total.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        costs.append(loss.item())
    assert costs[-1] < 0.75 * costs[0]
    image = model._mean_image(model.canvases(2, lambda layer, prior: prior.mean)[-1])
    assert image.shape == (2, *space.sizes)
    assert image.abs().max() <= 1


def test_windows_of_one_filter_are_refused() -> None:
    with pytest.raises(UsageError, match="windows of 2 or more"):
        build_model("draw", TINY, read=1)
