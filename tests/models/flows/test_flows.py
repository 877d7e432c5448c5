"""What every flow promises: inverse, log-determinant, normalization, one number in every process, nothing written."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from codelength.errors import UsageError
from codelength.models.flows.base import Flow
from codelength.models.registry import SYSTEMS, build_model
from codelength.randomness import ExampleNoise
from codelength.run import load_tensors, load_weights, save_tensors
from codelength.space import Space
from codelength.training.diagnosis import first_non_finite

SMALL = Space.image(1, 4, 4, 5, offset=-2)
OPTIONS: dict[str, dict[str, Any]] = {
    "realnvp": {"scales": 2, "filters": 4, "blocks": 1},
    "glow": {"scales": 2, "depth": 2, "filters": 4},
    "flow_pp": {"couplings": [2, 1, 1], "filters": 4, "blocks": 1, "components": 2, "heads": 2, "noise_couplings": 2},
    "nice": {"couplings": 3, "hidden": 5, "layers": 1},
    "maf": {"layers": 2, "hidden": [20]},
}
systems = pytest.mark.parametrize("system", OPTIONS)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def inside(batch: int, seed: int = 5) -> Tensor:
    return -2 + 5 * torch.rand(batch, 1, 4, 4, generator=generator(seed), dtype=torch.float64)


@pytest.fixture
def flow(randomize: Callable[..., nn.Module]) -> Callable[..., Flow]:
    def build(system: str, **options: Any) -> Flow:
        model = build_model(system, SMALL, **OPTIONS[system] | options)
        return randomize(model, scale=0.2).double().density

    return build


def test_every_flow_is_here() -> None:
    assert set(OPTIONS) == {name for name, (family, _) in SYSTEMS.items() if family == "flows"}


@systems
@pytest.mark.parametrize("preprocessing", ["logit", "marginal", "rescale"])
def test_inverse_both_ways(flow, system: str, preprocessing: str) -> None:
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        model, y = flow(system, preprocessing=preprocessing).to(dtype), inside(4).to(dtype)
        with torch.no_grad():
            z = model.latents(y)
            torch.testing.assert_close(model.inverse(z), y, atol=5 * tolerance, rtol=tolerance)
            torch.testing.assert_close(model.latents(model.inverse(z)), z, atol=20 * tolerance, rtol=tolerance)


@systems
def test_log_prob_is_the_prior_and_the_jacobian(flow, log_det_by_autodiff, system: str) -> None:
    model, y = flow(system), inside(2)
    prior = {"normal": torch.distributions.Normal(0.0, 1.0)}.get(model.prior)
    z = model.latents(y)
    log_prior = model.log_prior(z) if prior is None else prior.log_prob(z).sum(1)
    expected = log_prior + log_det_by_autodiff(model.latents, y)
    torch.testing.assert_close(model.log_prob(y), expected, atol=1e-8, rtol=1e-8)
    assert (model.log_prob(y) - (expected + 0.01)).abs().min() > 5e-3, "a log-det off by 0.01 would be seen"


SCORE = """
import sys, torch
from pathlib import Path
from codelength.models.registry import build_model
from codelength.randomness import ExampleNoise
from codelength.run import load_tensors, load_weights
from codelength.space import Space
from codelength.training.diagnosis import first_non_finite
torch.set_num_threads(1)
x = torch.arange(32).reshape(2, 1, 4, 4) % 5 - 2
for system, options in OPTIONS.items():
    model = build_model(system, Space.image(1, 4, 4, 5, offset=-2), **options)
    load_weights(model, load_tensors(Path(sys.argv[1]) / f"{system}.safetensors"), "test")
    weights = model.double().eval().log_weights(x, 1, ExampleNoise(0, range(2))).total[0]
    print(*[value.hex() for value in weights.double().tolist()])
"""


def test_a_fresh_process_gives_the_same_numbers(tmp_path: Path, randomize) -> None:
    x, expected = torch.arange(32).reshape(2, 1, 4, 4) % 5 - 2, []
    for system, options in OPTIONS.items():
        model = randomize(build_model(system, SMALL, **options), scale=0.1)
        model.initialize(x, generator())
        save_tensors(model.state_dict(), tmp_path / f"{system}.safetensors")
        other = build_model(system, SMALL, **options)
        load_weights(other, load_tensors(tmp_path / f"{system}.safetensors"), "test")
        other.initialize(-x, generator())  # a loaded model is initialized already
        with torch.no_grad():
            values = [m.double().eval().log_weights(x, 1, ExampleNoise(0, range(2))).total[0] for m in (model, other)]
        assert torch.equal(*values)
        expected += values[0].double().tolist()
    done = subprocess.run(
        [sys.executable, "-c", f"OPTIONS = {OPTIONS!r}{SCORE}", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [float.fromhex(word) for word in done.stdout.split()] == pytest.approx(expected, rel=1e-10)


@systems
def test_scoring_and_sampling_write_nothing(flow, system: str) -> None:
    model = flow(system)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for mode in (True, False):
        model.train(mode)
        with torch.no_grad():
            model.log_prob(inside(3))
            model.sample(2, generator())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@systems
def test_initialization_happens_once(randomize, system: str) -> None:
    model = randomize(build_model(system, SMALL, **OPTIONS[system])).double()
    x = torch.randint(-2, 3, (40, 1, 4, 4), generator=generator())
    model.initialize(x, generator())
    state = {key: value.clone() for key, value in model.state_dict().items()}
    model.initialize((x + 2) // 3, generator(1))
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())


@systems
def test_a_path_between_two_data_ends_at_both(flow, system: str) -> None:
    model = flow(system)
    first, second = inside(1), inside(1, seed=6)
    path = model.interpolate(first, second, 5)
    assert path.shape == (5, 1, 4, 4)
    torch.testing.assert_close(path[[0, -1]], torch.cat([first, second]), atol=1e-6, rtol=1e-6)
    norms = model.latents(path).norm(dim=1)
    assert norms.min() > 0.99 * norms[[0, -1]].min(), "a straight line would pass nearer to 0"
    with pytest.raises(UsageError, match="at least the two ends"):
        model.interpolate(first, second, 1)


@systems
def test_a_path_of_integers_ends_at_both(randomize, system: str) -> None:
    model = randomize(build_model(system, SMALL, **OPTIONS[system]), scale=0.1).double()
    first, second = torch.randint(-2, 3, (2, 1, 1, 4, 4), generator=generator())
    path = model.interpolate(first, second, 4)
    assert torch.equal(path, SMALL.validate(path))
    assert torch.equal(path[[0, -1]], torch.cat([first, second]))


def test_what_has_no_latents_has_no_path() -> None:
    model = build_model("gaussian", SMALL)
    with pytest.raises(UsageError, match="no latents"):
        model.interpolate(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4), 3)


@systems
def test_temperature_scales_the_latents(flow, system: str) -> None:
    model = flow(system)
    with torch.no_grad():
        mode = model.inverse(torch.zeros(1, 16, dtype=torch.float64))
        torch.testing.assert_close(model.sample(3, generator(), temperature=0.0), mode.expand(3, -1, -1, -1))
        far = [(model.sample(50, generator(), temperature=t) - mode).abs().mean() for t in (0.1, 0.3, 1.0)]
    assert far[0] < far[1] < far[2]


@systems
def test_bfloat16_networks_leave_log_determinants_in_float32(randomize, system: str) -> None:
    model = randomize(build_model(system, SMALL, **OPTIONS[system]), scale=0.2)
    x = torch.arange(32).reshape(2, 1, 4, 4) % 5 - 2
    with torch.autocast("cpu", torch.bfloat16):
        low = model.log_weights(x, 1, ExampleNoise(0, range(2))).total
    full = model.log_weights(x, 1, ExampleNoise(0, range(2))).total
    assert low.dtype == torch.float32
    assert 0 < ((low - full) / full).abs().max() < 0.02


@systems
def test_a_nan_names_its_layer(flow, system: str) -> None:
    model = flow(system)
    name, layer = next((n, m) for n, m in model.named_modules() if n.endswith("network"))
    x = torch.randint(-2, 3, (4, 1, 4, 4), generator=generator())

    class Spoiled(nn.Module):
        def forward(self, *inputs: Tensor, **context: Tensor) -> Tensor:
            return layer(*inputs, **context) * torch.nan

    parent = model.get_submodule(name.rpartition(".")[0])
    setattr(parent, name.rpartition(".")[2], Spoiled())
    message = first_non_finite(model, lambda: -model.log_prob(x.double() + 0.5).mean())
    assert message == f"the first layer with a non-finite output is {name} (Spoiled)"
