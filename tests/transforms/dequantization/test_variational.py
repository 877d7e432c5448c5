"""Variational dequantization: a distribution on each bin, whose weights bound the mass with less loss than uniform noise."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from codelength.data.dataset import DataSet, Split
from codelength.errors import UsageError
from codelength.evaluation import evaluate
from codelength.models.flows.factorized import FactorizedLogistic
from codelength.models.registry import build_model
from codelength.space import Space
from codelength.transforms import (
    Compose,
    Dequantized,
    Discretized,
    LogisticMixture,
    SplitCoupling,
    UniformDequantization,
    VariationalDequantization,
)

SPACE = Space("vector", (2,), 3)
EVERY = torch.tensor(list(itertools.product(range(3), repeat=2)))


class Network(nn.Module):
    """Parameters of one number from the other and from both levels of the datum."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(3, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor, *, features: Tensor) -> Tensor:
        return self.out(torch.tanh(self.hidden(torch.cat([x, features], dim=1))))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=["logistic", "normal"])
def dequantizer(randomize: Callable[..., nn.Module], request: pytest.FixtureRequest) -> VariationalDequantization:
    layers = [SplitCoupling(LogisticMixture(2), Network(), swap=swap) for swap in (False, True)]
    model = VariationalDequantization(Compose(layers), nn.Identity(), levels=3, noise=request.param)
    return randomize(model, scale=0.4).double()


def test_it_integrates_to_one_on_every_bin(dequantizer: VariationalDequantization) -> None:
    t = torch.linspace(-26, 26, 261, dtype=torch.float64)
    u, step = torch.sigmoid(t), t[1] - t[0]
    grid, weight = torch.cartesian_prod(u, u), torch.outer(u * (1 - u), u * (1 - u)).flatten() * step**2
    with torch.no_grad():
        for x in EVERY[[0, 7]]:
            log_q = dequantizer.log_prob(grid, x.expand(len(grid), 2))
            assert abs((log_q.exp() * weight).sum() - 1) < 3e-4
            noise, log_det = dequantizer.flow.inverse(torch.logit(grid), features=(x / 3 - 0.5).expand(len(grid), 2))
            without = -0.5 * (noise**2).sum(1)
            assert abs((without.exp() * weight).sum() - 1) > 0.05, "without the Jacobian it would not"
            assert log_det.isfinite().all()


def test_the_density_of_a_sample_is_the_one_returned_with_it(dequantizer: VariationalDequantization) -> None:
    with torch.no_grad():
        y, log_q = dequantizer.sample(EVERY, 20, generator(), dtype=torch.float64)
        assert torch.equal(y.floor().long(), EVERY.expand(20, 9, 2))
        again = dequantizer.log_prob((y - EVERY).flatten(0, 1), torch.cat([EVERY] * 20)).reshape(20, 9)
    torch.testing.assert_close(again, log_q, atol=1e-7, rtol=1e-7)


def test_float32_noise_stays_in_its_bin_where_the_sigmoid_saturates() -> None:
    step = VariationalDequantization(Compose([]), nn.Identity(), levels=256)
    step.flow = Compose([_Far()])
    y, log_q = step.sample(torch.tensor([[255, 0]]), 3, generator())
    assert torch.equal(y.floor().long(), torch.tensor([[255, 0]]).expand(3, 1, 2))
    assert log_q.isfinite().all()
    with pytest.raises(ValueError, match="wanted integers"):
        step.sample(torch.rand(2, 2), 1, generator())
    with pytest.raises(UsageError, match="did you mean 'normal'"):
        VariationalDequantization(Compose([]), nn.Identity(), levels=256, noise="norm")


class _Far(SplitCoupling):
    """Noise of 40: its sigmoid is 1 in float32."""

    def __init__(self) -> None:
        super().__init__(LogisticMixture(1), nn.Identity())

    def forward(self, x: Tensor, **context: Tensor) -> tuple[Tensor, Tensor]:
        return x + 40, torch.zeros(len(x))


def test_the_mean_weight_is_the_mass(dequantizer: VariationalDequantization, randomize) -> None:
    randomize(dequantizer, scale=0.15)  # weights of a small variance, else their mean has no standard error to go by
    density = FactorizedLogistic(SPACE, torch.tensor([1.5, 0.8]), 0.5).double()
    model = Dequantized(density, dequantizer)
    dequantizer.noise = "logistic"  # the weights of normal noise have no variance, as the module says
    with torch.no_grad():
        exact = Discretized(density).log_prob(EVERY)
        weights = model.log_weights(EVERY, 20_000, generator(1)).total
    ratio = (weights - exact).exp()
    assert ((ratio.mean(0) - 1).abs() < 5 * ratio.std(0) / 20_000**0.5).all()
    assert (weights.mean(0) < exact).all(), "and one sample is below"


def test_it_learns_a_tighter_bound_than_uniform_noise(dequantizer: VariationalDequantization, randomize) -> None:
    randomize(dequantizer, scale=0.1)
    density = FactorizedLogistic(SPACE, torch.tensor([1.5, 0.8]), 0.1).double()
    for parameter in density.parameters():
        parameter.requires_grad_(False)
    model = Dequantized(density, dequantizer)
    optimizer = torch.optim.Adam(dequantizer.parameters(), 0.02)
    for step in range(150):
        loss = -model.log_weights(EVERY, 16, generator(step)).total.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        exact = Discretized(density).log_prob(EVERY)
        learned = model.log_weights(EVERY, 500, generator()).total
        uniform = model.with_dequantizer(UniformDequantization(3)).log_weights(EVERY, 500, generator()).total
    assert (exact - learned.mean(0)).mean() < 0.5 * (exact - uniform.mean(0)).mean()


def test_the_record_holds_the_bound_with_its_own_and_with_uniform_noise(randomize) -> None:
    space = Space.image(1, 2, 4, 5)
    options = {"couplings": [1, 1, 0], "filters": 4, "blocks": 1, "components": 2, "heads": 2, "noise_couplings": 1}
    model = randomize(build_model("flow_pp", space, **options), scale=0.2)
    x = torch.randint(5, (12, 1, 2, 4), generator=generator()).numpy()
    data = DataSet("toy", space, {"test": Split(x)})
    record = evaluate(model, data, "test", model_name="toy", family="flows", samples=20).record
    assert set(record.dequantizer_bounds) == {"variational", "uniform"}
    values = {name: bound.bits_per_dim for name, bound in record.dequantizer_bounds.items()}
    assert record.dequantizer == min(values, key=values.get)
    assert record.bits_per_dim == min(values.values())
    assert values["variational"] != values["uniform"]
    assert record.num_samples == 20
    assert record.kind == "bound"
    plain = build_model("flow_pp", space, dequantization="uniform", **options)
    assert set(evaluate(plain, data, "test", model_name="toy", family="flows").record.dequantizer_bounds) == {"uniform"}
