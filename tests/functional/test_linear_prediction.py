"""Adaptive linear prediction: the taps minimize what they should, and nothing later is looked at."""

from __future__ import annotations

import torch

from codelength.functional.linear_prediction import RIDGE, fit_taps, predict


def test_taps_minimize_the_weighted_squares():
    """The gradient of the objective vanishes at the taps, and not beside them."""
    x = 100 * torch.randn(3, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = fit_taps(x, 4)
    rows, weights = x.unfold(1, 5, 1), torch.arange(1, 37, dtype=torch.float64) / 36
    power = (weights[None, :, None] * rows[..., :4] ** 2).sum(1).mean(1)

    def gradient(taps):
        taps = taps.clone().requires_grad_()
        errors = rows[..., 4] - (rows[..., :4] * taps[:, None]).sum(2)
        ridge = RIDGE * power + weights.sum()
        objective = (weights * errors**2).sum(1) + ridge * (taps**2).sum(1)
        return torch.autograd.grad(objective.sum(), taps)[0]

    assert gradient(found).abs().max() < 1e-6 * power.max()
    assert gradient(found + 0.01).abs().max() > 1e-3 * power.max()


def test_a_resonance_is_predicted_once_it_was_heard():
    time = torch.arange(600, dtype=torch.float64)
    x = (1000 * torch.cos(0.3 * time))[None]
    errors = (x - predict(x, 4, 64, 16)).abs()[0]
    assert errors[200:].max() < 5 < errors[0]


def test_prediction_looks_at_earlier_samples_only():
    x = 100 * torch.randn(1, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before = predict(x, 3, 10, 4)
    for t in range(50):
        changed = x.clone()
        changed[:, t:] += 7
        after = predict(changed, 3, 10, 4)
        assert torch.equal(after[:, : t + 1], before[:, : t + 1])
        heard = t + 1 >= 4  # the first block has no taps yet
        assert t > 48 or torch.equal(after[:, t + 1], before[:, t + 1]) != heard


def test_silence_has_no_taps():
    assert fit_taps(torch.zeros(20, dtype=torch.float64), 4).abs().max() == 0
