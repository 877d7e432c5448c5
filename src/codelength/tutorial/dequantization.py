"""Why densities of integers need noise, and what preprocessing does to a density."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codelength.transforms import Logit, Rescale
from codelength.tutorial.drawing import BLUE, GREEN, GREY, ORANGE, save, sheet
from codelength.tutorial.mixture import (
    LEVELS,
    QUADRATURE,
    Mixture,
    digit_histogram,
    entropy_bits,
    fit,
    quadrature,
    red_histogram,
)
from codelength.units import bits

COMPONENTS, STEPS, START, ALPHA = 10, 1000, 2.0, 0.05


def spikes(path: Path) -> dict[str, Any]:
    """The same density fitted to integers as they are, and to integers plus U(0, 1)."""
    frequencies = digit_histogram()
    integers, noisy = torch.arange(LEVELS, dtype=torch.float64), quadrature()
    bare, spread = (Mixture(COMPONENTS, frequencies, START) for _ in range(2))
    falls = fit(bare, lambda m: -(frequencies * m.log_density(integers)).sum(), STEPS, free_means=False)
    holds = fit(spread, lambda m: -(frequencies * m.log_density(noisy).mean(1)).sum(), STEPS)
    floor = entropy_bits(frequencies)

    figure, axes = sheet(1, 2, 11, 4)
    left, right = axes[0]
    left.axhline(floor, color=GREY, linestyle="--", label=f"entropy of the integers, {floor:.2f}")
    left.plot(falls, color=ORANGE, label="fitted to integers as they are")
    left.plot(holds, color=BLUE, label="fitted to integers + U(0, 1)")
    left.set(xlabel="step of training", ylabel="−log2 density, bits", title="The training loss")
    left.legend()
    window = torch.linspace(-1, 6, 7001, dtype=torch.float64)
    with torch.no_grad():
        spiky, smooth = bare.log_density(window).exp().numpy(), spread.log_density(window).exp().numpy()
    right.semilogy(window.numpy(), np.maximum(spiky, 1e-6), color=ORANGE, linewidth=1)
    right.semilogy(window.numpy(), smooth, color=BLUE)
    for value in range(7):
        right.axvline(value, color=GREY, linewidth=0.4)
    right.set(xlabel="level (grey lines: integers)", ylabel="density", title="The densities, near black")
    save(figure, path)
    with torch.no_grad():
        exact = -(frequencies * torch.log(bin_mass(spread))).sum()
    return {
        "components": COMPONENTS,
        "steps": STEPS,
        "scale_at_the_start_levels": START,
        "entropy_bits": floor,
        "loss_on_integers_bits": falls[-1],
        "first_step_below_the_entropy": next((i for i, loss in enumerate(falls) if loss < floor), None),
        "loss_with_noise_bits": holds[-1],
        "exact_mass_of_the_same_density_bits": float(bits(exact)),
        "highest_density_on_integers": float(spiky.max()),
    }


def bin_mass(mixture: Mixture) -> Tensor:
    """Mass of the density in each bin [v, v + 1), (256,): differences of its CDF."""
    edges = torch.arange(LEVELS + 1, dtype=torch.float64).unsqueeze(-1)
    z = (2 * edges / LEVELS - 1 - mixture.mean) * torch.exp(-mixture.log_scale)
    cdf = (torch.softmax(mixture.logits, 0) * torch.sigmoid(z)).sum(-1)
    return cdf[1:] - cdf[:-1]


def preprocessing(path: Path) -> dict[str, Any]:
    """One model seen in four spaces: integers, [0, 256), the unit interval and the reals, and the terms between them."""
    frequencies = red_histogram()
    y = quadrature()
    weight = (frequencies / QUADRATURE).unsqueeze(1).expand_as(y).reshape(-1)
    flat = y.reshape(-1, 1)
    unit, to_unit = Rescale(LEVELS).forward(flat)
    reals, to_reals = Logit(ALPHA).forward(unit)

    # A single logistic on the reals, by gradient; the densities on the other spaces follow from it.
    place = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([place], max_iter=100)

    def log_prob_reals() -> Tensor:
        z = (reals[:, 0] - place[0]) * torch.exp(-place[1])
        return torch.nn.functional.logsigmoid(z) + torch.nn.functional.logsigmoid(-z) - place[1]

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = -(weight * log_prob_reals()).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        on_reals = log_prob_reals()
        mean = [float(bits(-(weight * log_prob).sum())) for log_prob in (on_reals, on_reals + to_reals)]
        on_levels = on_reals + to_reals + to_unit
        mean.append(float(bits(-(weight * on_levels).sum())))
        mass = -(frequencies * torch.log(on_levels.exp().view(LEVELS, -1).mean(1))).sum()
    numbers = {
        "alpha": ALPHA,
        "bits_on_the_reals": mean[0],
        "logit_term_bits": float(bits(-(weight * to_reals).sum())),
        "bits_on_the_unit_interval": mean[1],
        "rescaling_term_bits": math.log2(LEVELS),
        "bits_on_0_to_256": mean[2],
        "exact_mass_bits": float(bits(mass)),
    }
    _draw_spaces(path, frequencies, weight, unit, reals, on_reals, on_reals + to_reals, on_levels, numbers)
    return numbers


def _draw_spaces(path: Path, frequencies: Tensor, weight: Tensor, unit: Tensor, reals: Tensor, *rest: Any) -> None:
    on_reals, on_unit, on_levels, numbers = rest
    figure, axes = sheet(1, 4, 13, 3.5)
    levels = np.arange(LEVELS)
    mass = on_levels.exp().view(LEVELS, -1).mean(1).numpy()
    axes[0, 0].bar(levels, frequencies.numpy(), width=1, color=GREY)
    axes[0, 0].plot(levels, mass, color=BLUE)
    axes[0, 0].set(title="integers x, mass", xlabel=f"exact: {numbers['exact_mass_bits']:.3f} bits")
    panels = (
        (quadrature().reshape(-1), on_levels, "x + U(0, 1), [0, 256)", f"≤ {numbers['bits_on_0_to_256']:.3f} bits"),
        (
            unit[:, 0],
            on_unit,
            "divided by 256, [0, 1)",
            f"{numbers['bits_on_the_unit_interval']:.3f} bits (+ 8 = left)",
        ),
        (
            reals[:, 0],
            on_reals,
            f"logit, α = {ALPHA}, the reals",
            f"{numbers['bits_on_the_reals']:.3f} bits (+ {numbers['logit_term_bits']:.3f} = left)".replace("+ -", "− "),
        ),
    )
    for panel, (place, log_density, title, words) in zip(axes[0, 1:], panels, strict=True):
        panel.hist(place.numpy(), bins=64, weights=weight.numpy(), density=True, color=GREY)
        panel.plot(place.numpy(), log_density.exp().numpy(), color=GREEN if panel is axes[0, 3] else BLUE)
        panel.set(title=title, xlabel=words)
    for panel in axes[0]:
        panel.set_yticks([])
    save(figure, path)
