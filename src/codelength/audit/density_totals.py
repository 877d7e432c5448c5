"""The integral of a density over the reals: by quadrature in one or two dims, else from samples."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from scipy.special import logsumexp

from codelength.audit.annealing import SWEEPS, affordable_steps, anneal, real_moves
from codelength.audit.context import Context
from codelength.audit.evidence import effective_fraction, log_mean, log_wealth, proves_excess
from codelength.audit.reference import Reference
from codelength.audit.totals import Total

NODES = 4096
NODES_2D = 384


class Broad:
    """Uniform over the levels, or independent logistics with tails far beyond them: half and half.

    The first is where densities with bounded support are, the second finds mass outside the levels.
    """

    def __init__(self, dims: int, offset: int, levels: int) -> None:
        self.dims, self.offset, self.levels = dims, offset, levels
        self.scale = levels / 4

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        u = rng.uniform(1e-12, 1 - 1e-12, size=(n, self.dims))
        wide = self.offset + self.levels / 2 + self.scale * np.log(u / (1 - u))
        return np.where(rng.random((n, 1)) < 0.5, self.offset + self.levels * u, wide)

    def log_prob(self, y: np.ndarray) -> np.ndarray:
        t = np.abs((y - self.offset - self.levels / 2) / self.scale)
        wide = (-t - 2 * np.log1p(np.exp(-t)) - np.log(self.scale)).sum(1)
        inside = ((y >= self.offset) & (y < self.offset + self.levels)).all(1)
        uniform = np.where(inside, -self.dims * math.log(self.levels), -np.inf)
        return np.asarray(np.logaddexp(wide, uniform) - math.log(2))


class Cells:
    """A `Reference` over integers, spread evenly over the cells [x, x + 1)."""

    def __init__(self, reference: Reference, offset: int, levels: int) -> None:
        self.reference, self.offset, self.levels = reference, offset, levels

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        x = self.reference.sample(n, rng)
        return x + self.offset + rng.random(x.shape)

    def log_prob(self, y: np.ndarray) -> np.ndarray:
        x = np.floor(y - self.offset).astype(np.int64)
        inside = ((x >= 0) & (x < self.levels)).all(1)
        return np.where(inside, self.reference.log_prob(x.clip(0, self.levels - 1)), -np.inf)


class Gaussians:
    """A Gaussian fitted to points, with three widths, and a broad part: a normalized mixture."""

    def __init__(self, points: np.ndarray, broad: Broad) -> None:
        self.mean, self.broad = points.mean(0), broad
        dims = points.shape[1]
        covariance = np.atleast_2d(np.cov(points, rowvar=False))
        shrunk = 0.9 * covariance + 0.1 * np.diag(np.diag(covariance)) + 1e-9 * np.eye(dims) * np.trace(covariance)
        self.root = np.linalg.cholesky(shrunk)
        self.widths = (1.0, 1.3, 2.0)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        which = rng.integers(len(self.widths) + 1, size=n)
        width = np.asarray([*self.widths, 1.0])[which][:, None]
        y = self.mean + width * (rng.standard_normal((n, len(self.mean))) @ self.root.T)
        broad = which == len(self.widths)
        y[broad] = self.broad.sample(int(broad.sum()), rng)
        return y

    def log_prob(self, y: np.ndarray) -> np.ndarray:
        dims = len(self.mean)
        z = np.linalg.solve(self.root, (y - self.mean).T)
        constant = -np.log(np.diag(self.root)).sum() - 0.5 * dims * math.log(2 * math.pi)
        parts = [constant - dims * math.log(w) - 0.5 * (z**2).sum(0) / w**2 for w in self.widths]
        return np.asarray(logsumexp([*parts, self.broad.log_prob(y)], axis=0) - math.log(len(parts) + 1))


def density_total(context: Context) -> Total:
    """∫ exp(density) over the reals; kept, because two probes want it."""
    cached = context.__dict__.get("_density_total")
    if cached is None:
        cached = _quadrature(context) if context.inputs.space.num_dims <= 2 else _sampled(context)
        context.__dict__["_density_total"] = cached
    return cached


def log_density(context: Context, y: np.ndarray) -> np.ndarray:
    """The model's log density of flat points (n, D); a NaN outside the levels counts as no mass there."""
    shape, space = context.inputs.space.sizes, context.inputs.space
    values = torch.from_numpy(np.ascontiguousarray(y)).reshape(-1, *shape).to(context.subject.real_dtype)
    inside = ((y >= space.offset) & (y < space.offset + space.levels)).all(1)
    result = np.full(len(y), -np.inf)
    if inside.any():
        result[inside] = context.subject.density(values[torch.from_numpy(inside)]).numpy()
    if (~inside).any():
        result[~inside] = context.subject.density_anywhere(values[torch.from_numpy(~inside)]).numpy()
    return result


def _quadrature(context: Context) -> Total:
    """Midpoint rule on a grid that covers the levels and their surroundings."""
    space = context.inputs.space
    dims, nodes = space.num_dims, NODES if space.num_dims == 1 else NODES_2D
    width = 3 * space.levels / nodes
    axis = space.offset - space.levels + width * (np.arange(nodes) + 0.5)
    grid = np.stack(np.meshgrid(*[axis] * dims, indexing="ij"), -1).reshape(-1, dims)
    values = log_density(context, grid)
    log_value = float(logsumexp(values) + dims * math.log(width))
    # On half the nodes the rule must give the same, else the density is too sharp for it.
    kept = values.reshape([nodes] * dims)[tuple([slice(None, None, 2)] * dims)]
    coarse = float(logsumexp(kept) + dims * math.log(2 * width))
    converged = abs(coarse - log_value) < 1e-3
    if not converged:
        return _sampled(context)
    return Total(log_value, "quadrature", exact=True, count=len(grid))


def _sampled(context: Context) -> Total:
    """Importance sampling from cells around data, then annealed chains, then a Gaussian fitted to where they ended."""
    space = context.inputs.space
    rng = context.inputs.generator("density-total")
    samples = context.affordable("density", 1024, 0.02, 64)

    def log_p(y: np.ndarray) -> np.ndarray:
        return log_density(context, y)

    broad = Broad(space.num_dims, space.offset, space.levels)
    cells = Cells(Reference.fit(context.points, space.levels), space.offset, space.levels)
    runs = [_ratios(log_p, cells, samples, rng)]
    wanted = min(4000, max(300, 40 * space.num_dims))
    steps = affordable_steps(log_p, broad, 64, wanted, context.seconds(0.08))
    if proves_excess(runs[0]) or steps < SWEEPS * space.num_dims:
        # Cells cover the levels alone, so they prove an excess or nothing: their estimate counts for nothing.
        return replace(_summary(runs), effective=0.0, count=len(runs[0]))
    move = real_moves(np.full(space.num_dims, broad.scale))
    weights, states = anneal(log_p, broad, move, chains=64, steps=steps, rng=rng)
    fitted = Gaussians(_resample(weights, states, rng), broad)
    more = samples * 8 if context.seconds(0.1) > 1 else samples
    runs += [weights, _ratios(log_p, fitted, more, rng)]
    highest = float(max(log_p(states).max(), *(log_p(p + space.offset + 0.5).max() for p in context.points)))
    return replace(_summary(runs), count=sum(map(len, runs)), highest=highest)


def _resample(weights: np.ndarray, states: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Four times as many states, picked by weight, slightly jittered so that no direction is empty."""
    finite = np.where(np.isfinite(weights), weights, -1e300)
    share = np.exp(finite - logsumexp(finite))
    picked = states[rng.choice(len(states), size=4 * len(states), p=share / share.sum())]
    spread = np.maximum(states.std(0), 1e-6)
    return np.asarray(picked + 0.1 * spread * rng.standard_normal(picked.shape))


def _ratios(log_p, base, samples: int, rng: np.random.Generator) -> np.ndarray:  # type: ignore[no-untyped-def]
    y = base.sample(samples, rng)
    return np.asarray(log_p(y) - base.log_prob(y))


def _summary(runs: list[np.ndarray]) -> Total:
    # Cells cover the levels alone: what they miss may be outside, so that only the other runs estimate the whole.
    best = max(runs[1:] or runs, key=lambda run: effective_fraction(run) * math.sqrt(len(run)))
    return Total(
        log_value=log_mean(best),
        method="annealed importance sampling" if len(runs) > 1 else "importance sampling",
        exact=False,
        excess=any(proves_excess(run) for run in runs),
        log_wealth=float(logsumexp([log_wealth(run) for run in runs]) - math.log(len(runs))),
        log_mean_ratio=float(logsumexp([log_mean(run) for run in runs]) - math.log(len(runs))),
        effective=effective_fraction(best),
    )
