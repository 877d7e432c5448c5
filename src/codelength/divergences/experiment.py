"""One target, one model that cannot express it, many objectives: what each of them makes of the same misfit.

The target is a density of three modes in the plane, the model one Gaussian with a full covariance. Every objective gets the same
starts, narrow in the middle, wide in the middle and at a random datum, and the best fit by the objective itself is kept: what is
shown is the divergence's own optimum and not where a start got stuck.
Divergences that punish q(x) near 0 where p(x) is not cover all modes; those that punish q(x) where p(x) is near 0 take one mode
and drop the rest. Two models that are no likelihoods join: an implicit one, which can only be sampled, and an unnormalized one,
a network whose exp has no known integral. Every fit is then judged by all divergences, by quadrature.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from codelength.divergences import objectives
from codelength.divergences.estimators import mmd_squared
from codelength.divergences.grid import Grid, GridDensity
from codelength.divergences.kernels import GaussianKernel, InverseMultiquadric, RadialKernel
from codelength.divergences.planar import PlanarDensity, three_modes
from codelength.randomness import make_generator

BANDWIDTH = 2.0
CHOSEN_BY = 1024  # points


class GaussianModel(nn.Module):
    """N(mean, L Lᵀ) in the plane: 5 parameters, from N(mean, spread² I)."""

    def __init__(self, mean: Tensor, spread: float) -> None:
        super().__init__()
        self.mean = nn.Parameter(mean.clone())
        self.log_scale = nn.Parameter(torch.full((2,), math.log(spread), dtype=torch.float64))
        self.shear = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def _factor(self) -> Tensor:
        scale, zero = self.log_scale.exp(), self.shear.new_zeros(())
        return torch.stack([torch.stack([scale[0], zero]), torch.stack([self.shear, scale[1]])])

    def log_prob(self, x: Tensor) -> Tensor:
        """log density, nats."""
        white = torch.linalg.solve_triangular(self._factor(), (x - self.mean).T, upper=False)
        return -0.5 * white.square().sum(0) - self.log_scale.sum() - math.log(2 * math.pi)

    def score(self, x: Tensor) -> Tensor:
        """∇ log density."""
        factor = self._factor()
        return -torch.linalg.solve(factor @ factor.T, (x - self.mean).T).T

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n points, differentiable in the parameters."""
        return self.mean + torch.randn(n, 2, generator=generator, dtype=torch.float64) @ self._factor().T


def _network(generator: torch.Generator, inputs: int, outputs: int, width: int = 32) -> nn.Sequential:
    """Two hidden layers of smooth units (a Stein operator differentiates them), with a seeded start."""
    layers = [nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, outputs)]
    network = nn.Sequential(*layers).double()
    with torch.no_grad():
        for parameter in network.parameters():
            scale = 1 / math.sqrt(parameter.shape[-1]) if parameter.ndim == 2 else 0.1
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return network


class ImplicitModel(nn.Module):
    """A network applied to noise: it can be sampled, and its density is not known."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.network = _network(generator, 2, 2)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n points."""
        points: Tensor = 3 * self.network(torch.randn(n, 2, generator=generator, dtype=torch.float64))
        return points


class UnnormalizedModel(nn.Module):
    """exp of a network within a wide Gaussian: its integral is finite, and not known."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.network = _network(generator, 2, 1)

    def log_prob(self, x: Tensor) -> Tensor:
        """log density up to a constant."""
        values: Tensor = 5 * self.network(x / 3)[:, 0] - 0.5 * (x / 4).square().sum(1)
        return values

    def score(self, x: Tensor) -> Tensor:
        """∇ of it, differentiable in the parameters."""
        with torch.enable_grad():
            points = x if x.requires_grad else x.detach().requires_grad_()
            (score,) = torch.autograd.grad(self.log_prob(points).sum(), points, create_graph=True)
        return score


@dataclass(frozen=True)
class Method:
    """A row of the experiment.

    Args:
        name: Name of the objective.
        title: What the figure writes above it.
        model: "gaussian", "implicit" or "unnormalized".
        loss: (model, target, data, generator) -> scalar.
        covers: Whether it is known to cover modes (True), to drop them (False), or neither is sure (None).
    """

    name: str
    title: str
    model: str
    loss: Callable[[Any, PlanarDensity, Tensor, torch.Generator], Tensor]
    covers: bool | None = None


def _gaussian_kernel() -> RadialKernel:
    return GaussianKernel(BANDWIDTH)


METHODS: tuple[Method, ...] = (
    Method("forward_kl", "forward KL", "gaussian", lambda q, p, x, g: objectives.forward_kl(q.log_prob, x), True),
    Method(
        "reverse_kl",
        "reverse KL",
        "gaussian",
        lambda q, p, x, g: objectives.reverse_kl(q, p.log_prob, len(x), g),
        False,
    ),
    Method(
        "jensen_shannon",
        "Jensen-Shannon",
        "gaussian",
        lambda q, p, x, g: objectives.jensen_shannon(q, p.log_prob, x, g),
    ),
    Method(
        "chi_squared",
        "χ²(p ‖ q)",
        "gaussian",
        lambda q, p, x, g: objectives.chi_squared(q.log_prob, p.log_prob, x),
        True,
    ),
    Method(
        "reverse_chi_squared",
        "χ²(q ‖ p)",
        "gaussian",
        lambda q, p, x, g: objectives.reverse_chi_squared(q, p.log_prob, len(x), g),
        False,
    ),
    Method(
        "renyi_half",
        "Rényi, α = 1/2",
        "gaussian",
        lambda q, p, x, g: objectives.renyi(q, p.log_prob, 0.5, len(x), g),
    ),
    Method("bregman_squared", "∫ (p − q)²", "gaussian", lambda q, p, x, g: objectives.bregman_squared(q, x, g), False),
    Method("score_matching", "score matching", "gaussian", lambda q, p, x, g: objectives.score_matching(q.score, x)),
    Method("ksd", "KSD of samples", "gaussian", lambda q, p, x, g: _ksd_of_samples(q, p, len(x), g)),
    Method(
        "mmd",
        "MMD",
        "gaussian",
        lambda q, p, x, g: objectives.mmd_squared(x, q.sample(len(x), g), _gaussian_kernel()),
        None,
    ),
    Method("operator", "Langevin-Stein", "gaussian", lambda q, p, x, g: _refuse()),
    Method(
        "implicit_mmd",
        "MMD, implicit",
        "implicit",
        lambda q, p, x, g: objectives.mmd_squared(x, q.sample(len(x), g), _gaussian_kernel()),
    ),
    Method(
        "unnormalized_score_matching",
        "score matching, unnormalized",
        "unnormalized",
        lambda q, p, x, g: objectives.score_matching(q.score, x),
    ),
    Method(
        "unnormalized_ksd",
        "KSD of data, unnormalized",
        "unnormalized",
        lambda q, p, x, g: objectives.stein_discrepancy(x, q.score(x), InverseMultiquadric(1.0)),
    ),
)


def _ksd_of_samples(q: Any, p: PlanarDensity, n: int, generator: torch.Generator) -> Tensor:
    y = q.sample(n, generator)
    return objectives.stein_discrepancy(y, _target_score(p, y), InverseMultiquadric(BANDWIDTH))


def _target_score(p: PlanarDensity, y: Tensor) -> Tensor:
    """∇ log p at points that depend on parameters, so that gradients pass through it too."""
    with torch.enable_grad():
        points = y if y.requires_grad else y.detach().requires_grad_()
        (score,) = torch.autograd.grad(p.log_prob(points).sum(), points, create_graph=True)
    return score


def _refuse() -> Tensor:
    raise AssertionError("the operator objective is trained by _fit_operator")


@dataclass(frozen=True)
class Fit:
    """What an objective made of the model.

    Args:
        method: The objective.
        model: The fitted model.
        divergences: Name -> value of every divergence that its model allows, by quadrature (of an implicit model from samples).
        modes: Share of the target's modes whose region holds at least a third of its mass under the fit.
        seconds: Time of the fit.
    """

    method: Method
    model: Any
    divergences: dict[str, float]
    modes: float
    seconds: float


def fit(method: Method, target: PlanarDensity, *, steps: int = 400, batch: int = 128, seed: int = 0) -> Any:
    """Train the method's model from each start by Adam with a cosine step size; the best by its own objective.

    The operator's objective is a game whose value at the end is no measure: it has one start, the wide one.
    """
    origin = torch.zeros(2, dtype=torch.float64)
    random = target.sample(1, make_generator(seed, "start of the mean"))[0]
    if method.name == "operator":
        model: Any = GaussianModel(origin, 3.0)
        _fit_operator(model, target, steps, batch, make_generator(seed, "noise"))
        return model
    if method.model == "implicit":
        models: list[Any] = [ImplicitModel(make_generator(seed, "start"))]
    elif method.model == "unnormalized":
        models = [UnnormalizedModel(make_generator(seed, "start"))]
    else:
        models = [GaussianModel(origin, 1.0), GaussianModel(origin, 3.0), GaussianModel(random, 1.0)]
    for model in models:
        _descend(method, model, target, steps, batch, seed)
    return min(models, key=lambda model: _value(method, model, target, seed)) if len(models) > 1 else models[0]


def _descend(method: Method, model: Any, target: PlanarDensity, steps: int, batch: int, seed: int) -> None:
    noise, data = make_generator(seed, "noise"), make_generator(seed, "data")
    rate = 0.03 if method.model == "gaussian" else 0.01
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        loss = method.loss(model, target, target.sample(batch, data), noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def _value(method: Method, model: Any, target: PlanarDensity, seed: int) -> float:
    x = target.sample(CHOSEN_BY, make_generator(seed, "data to choose by"))
    return float(method.loss(model, target, x, make_generator(seed, "noise to choose by")).detach())


def _fit_operator(model: Any, target: PlanarDensity, steps: int, batch: int, noise: torch.Generator) -> None:
    """Two steps of the test function for each of the model."""
    network = _network(make_generator(0, "test function"), 2, 2)
    objective = objectives.LangevinStein(lambda y: network(y / 3), lambda y: _target_score(target, y))
    critic = torch.optim.Adam(network.parameters(), lr=0.01, betas=(0.5, 0.9))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02, betas=(0.5, 0.9))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        for _ in range(2):
            critic.zero_grad()
            objective.loss_of_test_function(model.sample(batch, noise)).backward()
            critic.step()
        optimizer.zero_grad()
        objective.value(model.sample(batch, noise)).backward()
        optimizer.step()
        schedule.step()


def judge(model: Any, target: PlanarDensity, grid: Grid, p: GridDensity) -> tuple[dict[str, float], float]:
    """Every divergence of a fit, and the share of modes it covers."""
    means: Tensor = getattr(target, "means", torch.zeros(1, 2, dtype=torch.float64))
    if hasattr(model, "log_prob"):
        q = grid.density(model.log_prob, normalized=not isinstance(model, UnnormalizedModel))
        region = torch.cdist(grid.points, means).argmin(1)
        masses = [torch.bincount(region, weights=d.mass, minlength=len(means)) for d in (p, q)]
        return grid.divergences(p, q), float((masses[1] >= masses[0] / 3).double().mean())
    with torch.no_grad():
        y = model.sample(2000, make_generator(0, "judged samples"))
    x = target.sample(2000, make_generator(0, "judged data"))
    shares = [torch.bincount(torch.cdist(z, means).argmin(1), minlength=len(means)) / len(z) for z in (x, y)]
    value = mmd_squared(x, y, GaussianKernel(grid.bandwidth)).value
    return {"mmd_squared": value}, float((shares[1] >= shares[0] / 3).double().mean())


def run_experiment(
    *, steps: int = 400, batch: int = 128, seed: int = 0, talk: Callable[[str], None] = lambda line: None
) -> list[Fit]:
    """Fit the model under every objective and judge each fit by all divergences."""
    target, grid = three_modes(), Grid(reach=14.0, size=281)
    p, fits = grid.density(target.log_prob), []
    for method in METHODS:
        started = time.perf_counter()
        model = fit(method, target, steps=steps, batch=batch, seed=seed)
        seconds = time.perf_counter() - started
        measured, modes = judge(model, target, grid, p)
        fits.append(Fit(method, model, measured, modes, seconds))
        talk(f"{method.title}: {seconds:.1f} s, {modes:.0%} of the modes")
    return fits


def draw(fits: list[Fit], path: Path) -> None:
    """One figure: the target in grey, each fit in colour above it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    target, grid = three_modes(), Grid(reach=6.0, size=121)
    points, shape = grid.points, (grid.size, grid.size)
    density = target.log_prob(points).exp().reshape(shape).T.numpy()
    columns = 5
    rows = -(-len(fits) // columns)
    figure = Figure(figsize=(3 * columns, 3.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True).ravel()
    extent = (-grid.reach, grid.reach, -grid.reach, grid.reach)
    for axis, result in zip(axes, fits):
        axis.imshow(density, extent=extent, origin="lower", cmap="Greys", vmax=1.4 * density.max())
        if hasattr(result.model, "log_prob"):
            q = torch.softmax(result.model.log_prob(points).detach(), 0).reshape(shape).T.numpy()
            levels = _levels(torch.from_numpy(q.copy()).flatten())
            axis.contour(q, levels=levels, extent=extent, origin="lower", colors="#b34700", linewidths=1.3)
        else:
            with torch.no_grad():
                y = result.model.sample(600, make_generator(0, "drawn samples"))
            axis.plot(y[:, 0], y[:, 1], ".", color="#b34700", markersize=2.5)
        value = result.divergences.get("forward_kl")
        name = "forward KL" if value is not None else "MMD²"
        shown = result.divergences["mmd_squared"] if value is None else value
        axis.set_title(f"{result.method.title}\n{name} {shown:.3g}, modes {result.modes:.0%}", fontsize=10)
        axis.set(xlim=(-6, 6), ylim=(-6, 6), xticks=[], yticks=[], aspect="equal")
    for axis in axes[len(fits) :]:
        axis.axis("off")
    figure.savefig(path, dpi=110)


def _levels(mass: Tensor) -> list[float]:
    """Heights whose contours hold 90%, 50% and 10% of the mass, ascending."""
    ordered = mass.sort(descending=True).values
    held = ordered.cumsum(0)
    return sorted({float(ordered[int((held < share).sum())]) for share in (0.9, 0.5, 0.1)})


def table(fits: list[Fit]) -> str:
    """A row a fit, a column a divergence, tab-separated; "-" where the model does not allow it."""
    names = list(fits[0].divergences)
    lines = ["\t".join(["fitted by", "modes", *names])]
    for result in fits:
        cells = [f"{result.divergences[name]:.4g}" if name in result.divergences else "-" for name in names]
        lines.append("\t".join([result.method.name, f"{result.modes:.2f}", *cells]))
    return "\n".join(lines)


def to_json(fits: list[Fit]) -> list[dict[str, Any]]:
    """The table as JSON values."""
    return [
        {"fitted_by": f.method.name, "model": f.method.model, "modes": f.modes, "seconds": f.seconds, **f.divergences}
        for f in fits
    ]
