"""The discretized logistic: its mass in the middle and at the edges, what its gradient teaches, and how many components it takes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codelength.functional.discretized_logistic import discretized_logistic_log_mass
from codelength.tutorial.drawing import BLUE, GREEN, GREY, ORANGE, save, sheet
from codelength.tutorial.mixture import LEVELS, Mixture, entropy_bits, fit, red_histogram

COMPONENTS = (1, 2, 5, 10)


def scaled(level: float) -> Tensor:
    """A level on the scale where 0 .. 255 span [−1, 1]."""
    return torch.tensor(2 * level / (LEVELS - 1) - 1, dtype=torch.float64)


def masses(mean: Tensor, log_scale: Tensor) -> Tensor:
    """Mass of the 256 levels, (256,)."""
    return discretized_logistic_log_mass(torch.arange(LEVELS), mean, log_scale, LEVELS).exp()


def closed_masses(mean: Tensor, log_scale: Tensor) -> Tensor:
    """The same with closed edge bins, which lose what lies outside: wrong, for comparison."""
    half = 1 / (LEVELS - 1)
    y = 2 * torch.arange(LEVELS, dtype=torch.float64) * half - 1
    low, high = (torch.sigmoid((y + side - mean) * torch.exp(-log_scale)) for side in (-half, half))
    return high - low


def edges(path: Path) -> dict[str, Any]:
    """Mass of a logistic of scale 4 levels at 127, at 1 and at 254."""
    log_scale = torch.tensor(math.log(2 * 4 / (LEVELS - 1)), dtype=torch.float64)
    figure, axes = sheet(1, 3, 13, 3.8)
    numbers: dict[str, Any] = {"scale_levels": 4}
    for panel, (centre, low, high) in zip(axes[0], ((127, 106, 149), (1, -6, 30), (254, 226, 262)), strict=True):
        mean = scaled(centre)
        mass = masses(mean, log_scale).numpy()
        fine = np.linspace(low, high, 500)
        z = (torch.tensor(fine) - centre) / 4
        density = (torch.sigmoid(z) * torch.sigmoid(-z) / 4).numpy()
        shown = np.arange(max(low, 0), min(high, LEVELS - 1) + 1)
        colours = [ORANGE if v in (0, LEVELS - 1) else BLUE for v in shown]
        panel.bar(shown, mass[shown], width=0.92, color=colours, alpha=0.75)
        panel.plot(fine, density, color=GREY)
        closed = float(closed_masses(mean, log_scale).sum())
        panel.set(title=f"mean {centre}", xlabel="level", ylabel="mass; density (line)")
        numbers[f"sum_at_{centre}"] = float(mass.sum())
        numbers[f"sum_with_closed_edges_at_{centre}"] = closed
        if centre != 127:
            edge = 0 if centre == 1 else LEVELS - 1
            words = f"level {edge} takes the tail: {mass[edge]:.3f}\nwith closed bins the sum is {closed:.3f}"
            panel.text(
                0.97 if edge == 0 else 0.03,
                0.95,
                words,
                transform=panel.transAxes,
                va="top",
                ha="right" if edge == 0 else "left",
            )
            numbers[f"mass_of_level_{edge}"] = float(mass[edge])
    save(figure, path)
    return numbers


def gradients(path: Path) -> dict[str, Any]:
    """What one gradient step on one observation, 127, does to the probability of every level.

    Both models start with (nearly) the same distribution and take the step that raises log P(127) by 0.1 nats.
    """
    target, gain = 127, 0.1
    mean, log_scale = (
        scaled(100).requires_grad_(),
        torch.tensor(math.log(0.25), dtype=torch.float64, requires_grad=True),
    )
    start = masses(mean, log_scale).detach()
    logits = start.log().requires_grad_()
    logistic = _step([mean, log_scale], lambda: masses(mean, log_scale).log(), target, gain)
    categorical = _step([logits], lambda: torch.log_softmax(logits, 0), target, gain)

    figure, axes = sheet(1, 2, 11, 3.8)
    levels = np.arange(LEVELS)
    for panel, change, title in (
        (axes[0, 0], categorical, "categorical, 256 logits"),
        (axes[0, 1], logistic, "one discretized logistic"),
    ):
        panel.axhline(0, color=GREY, linewidth=0.8)
        panel.bar(levels, change.numpy(), width=1.0, color=BLUE)
        panel.axvline(target, color=ORANGE, linewidth=0.8, linestyle="--")
        panel.set(title=title, xlabel="level", ylabel="change of log P, nats", ylim=(-0.3, 0.3))
    save(figure, path)
    near = [v for v in range(target - 10, target + 11) if v != target]
    return {
        "target": target,
        "gain_nats": gain,
        "categorical_mean_change_of_20_neighbours": float(categorical[near].mean()),
        "logistic_mean_change_of_20_neighbours": float(logistic[near].mean()),
        "categorical_levels_raised": int((categorical > 0).sum()),
        "logistic_levels_raised": int((logistic > 0).sum()),
    }


def _step(parameters: list[Tensor], log_probs: Any, target: int, gain: float) -> Tensor:
    """Change of all log-probabilities by the gradient step that raises the target's by `gain`; found by bisection."""
    before = log_probs()
    slopes = torch.autograd.grad(before[target], parameters)
    start = [parameter.detach().clone() for parameter in parameters]

    def moved(rate: float) -> Tensor:
        with torch.no_grad():
            for parameter, origin, slope in zip(parameters, start, slopes, strict=True):
                parameter.copy_(origin + rate * slope)
            return torch.as_tensor(log_probs() - before)

    low, high = 0.0, 1e-4
    while moved(high)[target] < gain:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if moved(middle)[target] < gain else (low, middle)
    return moved(high)


def components(path: Path) -> dict[str, Any]:
    """Mixtures of 1, 2, 5 and 10 discretized logistics fitted to the red values of photographs."""
    frequencies = red_histogram()
    floor = entropy_bits(frequencies)
    figure, axes = sheet(1, 4, 13, 3.4)
    numbers: dict[str, Any] = {"entropy_bits": floor}
    for panel, count in zip(axes[0], COMPONENTS, strict=True):
        mixture = Mixture(count, frequencies)
        reached = fit(mixture, lambda m: -(frequencies * m.log_mass()).sum(), 1500)[-1]
        with torch.no_grad():
            mass = mixture.log_mass().exp().numpy()
        panel.bar(np.arange(LEVELS), frequencies.numpy(), width=1, color=GREY)
        panel.plot(np.arange(LEVELS), mass, color=GREEN)
        panel.set(
            title=f"K = {count}", xlabel=f"{reached:.4f} bits, {reached - floor:.4f} above the entropy", yticks=[]
        )
        numbers |= {f"bits_with_{count}": reached, f"excess_with_{count}": reached - floor}
    save(figure, path)
    return numbers
