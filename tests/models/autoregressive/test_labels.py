"""Class-conditional systems: a wrong label costs nats, as many as the classes differ by."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from torch import Tensor

from codelength import LikelihoodModel, Space, build_model
from codelength.models.autoregressive.stepwise import score_stepwise

SPACE = Space.image(1, 4, 4, 2, conditions={"label": 3})
CLASSES = {
    "made": {"hidden": [32]},
    "pixelcnn_pp": {"filters": 6, "blocks": 1, "stages": 1, "dropout": 0.0},
    "causal_window": {"rows": 2, "reach": 2, "width": 24, "layers": 2, "sites": 16},
}
NOISE = 0.1


def striped(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images of three patterns (rows, columns, none) in which every pixel is flipped with probability NOISE."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(3, (n,), generator=generator)
    grid = torch.arange(4) % 2
    patterns = torch.stack([grid[:, None].expand(4, 4), grid.expand(4, 4), torch.zeros(4, 4, dtype=torch.long)])
    flips = torch.rand((n, 1, 4, 4), generator=generator) < NOISE
    return patterns[label].unsqueeze(1) ^ flips.long(), label


@cache
def told_model(system: str) -> LikelihoodModel:
    """A model trained with its labels; no test changes it."""
    x, label = striped(2000, 0)
    return trained(system, label, x)


def trained(system: str, told: Tensor | None, x: Tensor) -> LikelihoodModel:
    """A model after 150 steps on x, told its labels or nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(system, SPACE, **CLASSES[system], class_conditional=told is not None)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        generator = torch.Generator().manual_seed(0)
        for _ in range(150):
            chosen = torch.randint(len(x), (64,), generator=generator)
            conditions = {} if told is None else {"label": told[chosen]}
            if system == "causal_window":
                nats = model.training_objective(x[chosen], generator, **conditions)
            else:
                nats = -model.log_prob(x[chosen], **conditions)
            optimizer.zero_grad()
            nats.mean().backward()
            optimizer.step()
    return model.eval()


def cost(model: LikelihoodModel, x: Tensor, label: Tensor) -> tuple[float, float]:
    """Mean nats that a wrong label costs, and its standard error."""
    with torch.no_grad():
        difference = model.log_prob(x, label=label) - model.log_prob(x, label=(label + 1) % 3)
    return difference.mean().item(), difference.std().item() / len(x) ** 0.5


@pytest.mark.parametrize("system", CLASSES)
def test_a_wrong_label_costs_nats(system):
    held_out, right = striped(500, 1)
    model, plain = told_model(system), trained(system, None, striped(2000, 0)[0])
    mean, error = cost(model, held_out, right)
    # Truth: two patterns differ in 8 pixels, each of which costs log(0.9 / 0.1) more, 4 in 5 times: 14 nats.
    truth = 8 * (1 - 2 * NOISE) * math.log((1 - NOISE) / NOISE)
    assert mean > 1
    assert 0.3 * truth < mean < 1.5 * truth
    assert mean > 5 * error
    # Told the label, the code is close to the entropy of the flips, and shorter than of a model that must find out.
    with torch.no_grad():
        nats = -model.log_prob(held_out, label=right).mean().item()
        untold = -plain.log_prob(held_out).mean().item()
        steps = score_stepwise(model, held_out[:20], label=right[:20])
        torch.testing.assert_close(steps, model.log_prob(held_out[:20], label=right[:20]).double(), rtol=0, atol=2e-5)
    flips = -16 * (NOISE * math.log(NOISE) + (1 - NOISE) * math.log(1 - NOISE))
    assert flips - 0.5 < nats < flips + 1
    assert nats < untold - 0.3


def test_labels_without_meaning_cost_nothing():
    """Control: a model trained with labels drawn anew, whose wrong labels are as good as the right ones."""
    x, _ = striped(2000, 0)
    drawn = torch.randint(3, (len(x),), generator=torch.Generator().manual_seed(5))
    mean, error = cost(trained("made", drawn, x), *striped(500, 1))
    assert abs(mean) < 0.5
    assert cost(told_model("made"), *striped(500, 1))[0] > abs(mean) + 5 * error


@pytest.mark.parametrize("system", CLASSES)
def test_samples_show_their_class(system):
    model, told = told_model(system), torch.arange(3).repeat_interleave(60)
    drawn = model.sample(180, torch.Generator().manual_seed(0), label=told)
    patterns = torch.stack([striped(400, 2)[0][striped(400, 2)[1] == c].double().mean(0).round() for c in range(3)])
    distance = (drawn.unsqueeze(1) != patterns.long()).flatten(2).sum(2)  # (180, 3)
    assert (distance.argmin(1) == told).double().mean() > 0.8
