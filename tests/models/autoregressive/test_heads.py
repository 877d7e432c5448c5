"""Heads are interchangeable: every pixel likelihood at 2 to 65,536 levels, grey and colour, in three systems."""

from __future__ import annotations

import math

import pytest
import torch

from codelength import Space, build_model
from codelength.errors import UsageError
from codelength.models.autoregressive.stepwise import stepwise_log_prob_per_dim
from codelength.pixels import make_likelihood

SYSTEMS = {
    "made": {"hidden": [6]},
    "pixelcnn_pp": {"filters": 3, "blocks": 1, "stages": 2},
    "causal_window": {"rows": 2, "reach": 2, "width": 6, "layers": 2, "head_width": 4},
}
MIXTURE = {"pixels": "logistic_mixture", "components": 2}
CASES = [
    *(({"pixels": "bernoulli"}, 2, channels) for channels in (1, 3)),
    *(({"pixels": "categorical"}, levels, channels) for levels in (2, 17, 256) for channels in (1, 3)),
    ({"pixels": "categorical"}, 65_536, 1),
    *((MIXTURE, levels, channels) for levels in (2, 17, 256, 65_536) for channels in (1, 3)),
    *(({**MIXTURE, "coupling": False}, levels, 3) for levels in (2, 256, 65_536)),
]


def _model(system: str, options: dict, levels: int, channels: int, randomize, dtype=torch.float64):
    space = Space.image(channels, 2, 4, levels)
    model = build_model(system, space, **SYSTEMS[system], **options)
    return randomize(model.to(dtype).eval(), scale=0.2)


def _data(model, n: int = 3):
    return torch.randint(model.space.levels, (n, *model.space.sizes), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize(("options", "levels", "channels"), CASES, ids=str)
def test_every_head_scores_and_steps_agree(system, options, levels, channels, randomize):
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-6)):
        model = _model(system, options, levels, channels, randomize, dtype)
        x = _data(model)
        with torch.no_grad():
            parallel = model.conditionals(x).log_prob_per_dim(x)
            steps = stepwise_log_prob_per_dim(model, x)
            assert model.log_prob(x).isfinite().all()
        assert (steps - parallel).abs().mean() < tolerance
        assert (steps.flatten(1).sum(1) - model.log_prob(x)).abs().max() < tolerance * model.space.num_dims
        samples = model.sample(2, torch.Generator().manual_seed(0))
        assert torch.equal(model.space.validate(samples), samples)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("coupling", [True, False])
def test_coupling_decides_whether_channels_of_a_site_speak(system, coupling, randomize):
    model = _model(system, {**MIXTURE, "components": 1, "coupling": coupling}, 256, 3, randomize)
    x = _data(model)
    changed = x.clone()
    changed[:, 0] = 255 - changed[:, 0]
    with torch.no_grad():
        distribution = model.conditionals(x)
        tables = [distribution.channel(1, y[:, :1]).probs() for y in (x, changed)]
    assert torch.equal(*tables) != coupling


@pytest.mark.parametrize("system", SYSTEMS)
def test_heads_that_do_not_fit_are_refused(system):
    grey, options = Space.image(1, 2, 4, 17), SYSTEMS[system]
    with pytest.raises(UsageError, match="2 levels"):
        build_model(system, grey, **options, pixels="bernoulli")
    with pytest.raises(UsageError, match="unknown pixel likelihood"):
        build_model(system, grey, **options, pixels="gaussian")
    with pytest.raises(UsageError, match="components"):
        build_model(system, grey, **options, pixels="categorical", components=3)


@pytest.mark.parametrize("system", ["pixelcnn_pp", "causal_window"])
def test_sixteen_bits_that_fill_a_hundredth_of_the_range_train_as_eight_do(system):
    """After the first batch the start costs about what it does for the same images at 8 bit, plus the finer levels."""
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(0, 200, 8).expand(8, 8) + torch.linspace(0, 40, 8)[:, None]
    noisy = (ramp + 4 * torch.randn((64, 1, 8, 8), generator=generator)).round().long().clamp(0, 255)
    costs = []
    for levels, x in ((256, noisy), (65_536, 3 * noisy + 500)):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = build_model(system, Space.image(1, 8, 8, levels), **{**SYSTEMS[system], "components": 10})
        fresh = -model.log_prob(x).mean().item() / 64
        model.initialize(x, torch.Generator().manual_seed(1))
        costs.append(-model.eval().log_prob(x).mean().item() / 64)
        assert levels == 256 or costs[-1] < fresh - 0.5  # control: without the batch it starts higher
    assert costs[1] < costs[0] + math.log(3) + 0.1


def _bytes_kept(likelihood: str, levels: int) -> int:
    """Bytes that a head's loss keeps for its gradient, at 64 sites."""
    head = make_likelihood(likelihood, Space.image(1, 8, 8, levels))
    parameters = torch.randn(1, head.num_parameters, 8, 8, requires_grad=True)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        head(parameters).log_prob(torch.zeros((1, 1, 8, 8), dtype=torch.long)).sum().backward()
    return sum(kept.values())


def test_a_mixture_of_65536_levels_takes_the_memory_of_256():
    assert _bytes_kept("logistic_mixture", 65_536) == _bytes_kept("logistic_mixture", 256)
    # Control: free probabilities of every level take 256 times as much.
    assert _bytes_kept("categorical", 65_536) > 200 * _bytes_kept("categorical", 256)
