"""How much probability a function hands out in all: Σ_x exp f(x) over the integers, or ∫ exp f(y) dy over the reals."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from codelength.audit.annealing import SWEEPS, affordable_steps, anneal, level_moves, model_log_p
from codelength.audit.evidence import (
    effective_fraction,
    log_mean,
    log_wealth,
    proves_excess,
)
from codelength.audit.inputs import Inputs, all_data
from codelength.audit.reference import Reference

Method = Literal["enumeration", "quadrature", "importance sampling", "annealed importance sampling"]
ENUMERATION_LIMIT = 2**16
DEFICIT = -5.0
# Estimated log totals above this are looked at again with many more chains.
SUSPICIOUS = 0.2


@dataclass(frozen=True)
class Total:
    """The total, and what is known of it.

    Args:
        log_value: Log of the total, exact or estimated.
        method: How it was found.
        exact: Whether every datum was counted (or a quadrature converged): then it is two-sided.
        excess: Whether it proves a total above one.
        log_wealth, log_mean_ratio: The e-values that do, where it was sampled.
        effective: Effective sample size of the best run's weights, as a share of its samples; near 1 where the estimate is good.
        highest: Largest value of the function that was found, where chains looked for it.
        count: Data scored.
    """

    log_value: float
    method: Method
    exact: bool
    excess: bool = False
    log_wealth: float = 0.0
    log_mean_ratio: float = -math.inf
    effective: float = 1.0
    highest: float = math.inf
    count: int = 0

    def evidence(self, prefix: str) -> dict[str, float | str | int]:
        """Numbers for a verdict."""
        numbers: dict[str, float | str | int] = {
            f"{prefix}_log_total": self.log_value,
            f"{prefix}_method": self.method,
            f"{prefix}_scored": self.count,
        }
        if not self.exact:
            numbers[f"{prefix}_log_e_value"] = self.log_wealth
            numbers[f"{prefix}_log_mean_ratio"] = self.log_mean_ratio
            numbers[f"{prefix}_effective_share"] = self.effective
        return numbers


def enumerate_total(function: Callable[[Tensor], Tensor], inputs: Inputs, limit: int, seconds: float) -> Total | None:
    """The sum over every datum, if there are at most `limit` and time allows."""
    everything = all_data(inputs.space, limit)
    if everything is None:
        return None
    started = time.process_time()
    first = function(everything[:256])
    if (time.process_time() - started) * len(everything) / 256 > seconds and len(everything) > 4096:
        return None
    values = torch.cat([first, function(everything[256:])]) if len(everything) > 256 else first
    return Total(float(torch.logsumexp(values, 0)), "enumeration", True, count=len(everything))


def sampled_total(
    function: Callable[[Tensor], Tensor],
    inputs: Inputs,
    points: list[np.ndarray],
    *,
    seconds: float,
    name: str,
    samples: int = 1024,
    anneal_steps: int = 0,
) -> Total:
    """Evidence about Σ exp f from samples of known normalized distributions.

    First importance sampling from a `Reference` fitted to `points`; then, if that is no proof, annealed chains, and importance
    sampling again from a `Reference` fitted to where the chains ended. Their e-values are averaged, which is an e-value.

    Args:
        function: (n, *shape) integers -> (n,) nats.
        inputs: Of the space.
        points: Sets of flat points, (n, D) counted from 0.
        seconds: Time that may be spent.
        name: Names the random numbers.
        samples: Points drawn from a reference.
        anneal_steps: Temperatures of the chains; 0 for none.
    """
    space, rng = inputs.space, inputs.generator("total", name)
    log_p = model_log_p(function, space.sizes, space.offset)
    deadline = time.process_time() + seconds
    runs = [_importance(log_p, Reference.fit(points, space.levels), samples, rng, deadline)]
    method: Method = "importance sampling"
    highest = math.inf
    if not proves_excess(runs[0]) and anneal_steps:
        base = Reference.plain(points[-1], space.levels)
        seconds = max(0.05, (deadline - time.process_time()) / 2)
        steps = affordable_steps(log_p, base, 64, anneal_steps, seconds)
        move = level_moves(space.levels)
        weights, states = anneal(log_p, base, move, chains=64, steps=steps, rng=rng)
        fitted = Reference.fit([states, *points], space.levels)
        runs += [weights, _importance(log_p, fitted, samples, rng, deadline)]
        if not any(map(proves_excess, runs)) and max(map(log_mean, runs)) > SUSPICIOUS:
            seconds = max(0.05, deadline - time.process_time())
            steps_again = affordable_steps(log_p, base, 512, anneal_steps, seconds)
            runs.append(anneal(log_p, base, move, chains=512, steps=steps_again, rng=rng)[0])
        if steps >= SWEEPS * space.num_dims:
            highest = float(max(log_p(states).max(), *(log_p(p).max() for p in points)))
        method = "annealed importance sampling"
    return _combine(runs, method, highest)


def _importance(
    log_p: Callable[[np.ndarray], np.ndarray],
    reference: Reference,
    samples: int,
    rng: np.random.Generator,
    deadline: float,
) -> np.ndarray:
    """Log ratios of `samples` points, and of up to 16 times more while they are informative and time remains."""
    ratios: list[np.ndarray] = []
    for factor in (1, 3, 12):
        x = reference.sample(samples * factor, rng)
        ratios.append(log_p(x) - reference.log_prob(x))
        joined = np.concatenate(ratios)
        informative = effective_fraction(joined) > 0.05 and log_mean(joined) > 0.002
        if not informative or proves_excess(joined) or time.process_time() > deadline:
            break
    return np.concatenate(ratios)


def _combine(runs: list[np.ndarray], method: Method, highest: float) -> Total:
    """The best of several runs: e-values are averaged, the estimate is that of the run with the evenest weights."""
    wealth = float(logsumexp([log_wealth(run) for run in runs]) - math.log(len(runs)))
    largest = float(logsumexp([log_mean(run) for run in runs]) - math.log(len(runs)))
    best = max(runs, key=lambda run: effective_fraction(run) * math.sqrt(len(run)))
    return Total(
        log_value=log_mean(best),
        method=method,
        exact=False,
        excess=any(proves_excess(run) for run in runs),
        log_wealth=wealth,
        log_mean_ratio=largest,
        effective=effective_fraction(best),
        highest=highest,
        count=sum(map(len, runs)),
    )


def far_too_little(total: Total, uniform_nats: float, margin: float) -> bool:
    """Whether almost all of the probability is nowhere to be found.

    Either samples that cover the function well put its total below e^-5, or the highest value that annealed chains climbed to is below
    the uniform probability, which some x must reach, by `margin` nats. A narrow peak can hide from both only if it holds 99% of all.
    """
    return (total.log_value < DEFICIT and total.effective > 0.2) or total.highest + uniform_nats < margin
