"""What exp of a lower bound hands out in all: no more than the probability it bounds, which is 1."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from codelength.audit.context import Context
from codelength.audit.evidence import log_mean, log_wealth, proves_excess
from codelength.audit.inputs import all_data
from codelength.audit.reference import Reference
from codelength.audit.resonance import CONSTANT_CAUSE, EXCESS_A_DIM, constants
from codelength.audit.verdict import Findings

BOUND_ENUMERATION = 512


@dataclass(frozen=True)
class BoundTotal:
    """The sum of exp(bound) over all data, or evidence on it.

    Args:
        log_total: Its log, exact up to noise or estimated.
        log_e_value: Evidence that it exceeds 1, where it was sampled.
        count: Data scored.
        excess: Whether it exceeds 1, up to noise.
    """

    log_total: float
    log_e_value: float
    count: int
    excess: bool


def check_bound_sums(context: Context, found: Findings) -> None:
    """exp of a lower bound sums to at most 1, for one sample and for several."""
    for k in (1, 8):
        total = bound_total(context, k)
        found.evidence |= {f"bound_log_total_k{k}": total.log_total, f"bound_log_e_value_k{k}": total.log_e_value}
        if total.excess:
            found.fail(
                f"exp of the bound at K = {k} sums to more than 1 (log {total.log_total:.3g}, e-value "
                f"e^{total.log_e_value:.1f}): it bounds no probability",
                "a missing log K, a sum over samples inside or outside the wrong logarithm, a dropped KL or log q term, "
                "exponentiated noisy bounds, or a density's constant",
            )
            return
        found.passed(f"exp of the bound at K = {k} sums to no more than 1 ({total.count} data)")


def check_bound_constant(context: Context, found: Findings) -> None:
    """An excess of the bound's total in every dim is a constant of the density behind it."""
    total, space = bound_total(context, 1), context.inputs.space
    if not total.excess:
        return
    for name, constant in constants(space).items():
        if abs(total.log_total - constant) < 0.02 * constant:
            found.fail(f"log of the bound's total is {total.log_total:.4g}, about {name}", CONSTANT_CAUSE)
            return
    if total.log_total > EXCESS_A_DIM * space.num_dims:
        excess = total.log_total / space.num_dims
        found.fail(
            f"the bound hands out {excess:.3g} nats too much in every dim, as a missing constant would", CONSTANT_CAUSE
        )


def damped(values: Tensor) -> tuple[Tensor, Tensor]:
    """Means of M noisy bounds, (M, n) -> (n,), less their variance, and the variance s^2 / M of the mean.

    E exp(mean) is up to exp(s^2 / 2M) larger than exp(E mean), which is what must not exceed P; s^2 / M is subtracted. An infinite
    bound is a probability of 0.
    """
    finite = values.isfinite().all(0)
    safe = torch.where(finite, values, torch.zeros_like(values))
    variance = safe.var(0) / len(values)
    return torch.where(finite, safe.mean(0) - variance, torch.full_like(variance, -torch.inf)), variance


def bound_total(context: Context, k: int) -> BoundTotal:
    """The total at K = k, by enumeration or from samples; kept, because two probes want it. See `damped` for the noise."""
    kept: dict[int, BoundTotal] = context.__dict__.setdefault("_bound_totals", {})
    if k not in kept:
        kept[k] = _bound_total(context, k)
    return kept[k]


def _bound_total(context: Context, k: int) -> BoundTotal:
    repeats, inputs = 16, context.inputs

    def score(x: Tensor) -> tuple[Tensor, Tensor]:
        return damped(context.repeated_bounds(x, k, repeats, f"total-{k}"))

    everything = all_data(inputs.space, BOUND_ENUMERATION)
    if everything is not None:
        mean, variance = score(everything)
        log_total = float(torch.logsumexp(mean, 0))
        # Standard error of the log of a sum of noisy terms, each with its share of the sum.
        error = float((torch.softmax(mean, 0).nan_to_num() ** 2 * variance).sum().sqrt())
        return BoundTotal(log_total, 0.0, len(everything), log_total > 1e-3 + 5 * error)
    reference = Reference.fit(context.points, inputs.space.levels)
    rows = context.affordable("bound", 256 * repeats * k, 0.04, 16 * repeats * k) // (repeats * k)
    x = reference.sample(rows, inputs.generator("bound-total", k))
    data = torch.from_numpy(x).reshape(-1, *inputs.space.sizes) + inputs.space.offset
    ratios = score(data)[0].numpy() - reference.log_prob(x)
    return BoundTotal(log_mean(ratios), log_wealth(ratios), len(x), proves_excess(ratios))
