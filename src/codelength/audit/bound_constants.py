"""What the number of samples K must and must not do to a bound.

For importance weights, K samples once and K times one sample hold the same information: log mean exp of S bounds of one sample has the
distribution of one bound of S samples. A bound that is higher has a constant too much (log K); one that falls with K averages in the wrong
place. Where log P is known too, no bound may exceed it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from codelength.audit.context import Context
from codelength.audit.verdict import Findings
from codelength.functional import log_mean_exp

SAMPLES = 32
REPEATS = 24
# Samples that are not independent (antithetic, stratified) may gain a little over independent ones; a missing log K is all of it.
SHARE_OF_LOG_K = 0.5
ABOVE_CAUSE = "log K not subtracted, a maximum or sum over the wrong axis, or weights that are not p(x, z) / q(z | x)"
FALLS_CAUSE = "logsumexp of the negative log weights, a wrong sign, or a mean over the wrong axis"
TWICE_CAUSE = "log K subtracted twice"
EXACT_CAUSE = "a dropped KL or log q term, a missing log K, or exponentiated noisy bounds"


def check_bound(context: Context, found: Findings) -> None:
    """Equal information, monotonicity in K, and the exact value where there is one."""
    x = torch.cat([context.inputs.data(4), context.inputs.noise(2, "bound-k"), context.inputs.mixed(2, "bound-k")])
    affordable = context.affordable("bound", SAMPLES * REPEATS * len(x), 0.1, 8 * 8 * len(x)) // len(x)
    samples = SAMPLES if affordable >= 8 * SAMPLES else 8
    one, many = _draw(context, x, samples, affordable // samples)
    usable = one.isfinite().all(0).all(0) & many.isfinite().all(0)
    if not bool(usable.any()):
        found.note("the bound is infinite for all data tried")
        return
    one, many = one[..., usable], many[:, usable]
    _same_information(found, one, many)
    _monotone(found, one, many)
    if context.subject.has_log_prob:
        _below_exact(found, context.subject.log_prob(x)[usable], one, many)


def _draw(context: Context, x: Tensor, samples: int, repeats: int) -> tuple[Tensor, Tensor]:
    """Bounds of one sample, (R, S, n), and of S samples, (R, n).

    Copies of a datum in one batch serve as repetitions if their noise is their own; else each repetition is a call.
    """
    subject, n = context.subject, len(x)
    seed = context.rng_seed("bound-k") % 2**61
    copies = subject.bound(x[:1].expand(8, *x.shape[1:]), 1, seed)
    if float(copies.std()) == 0:
        samples, repeats = 8, min(repeats, 10)
        one = context.repeated_bounds(x, 1, samples * repeats, "one").unflatten(0, (repeats, samples))
        return one, context.repeated_bounds(x, samples, repeats, "many")
    rows = x.repeat(samples * repeats, *[1] * (x.dim() - 1))
    one = torch.cat([subject.bound(part, 1, seed + i) for i, part in enumerate(rows.split(2048))])
    many = subject.bound(rows[: repeats * n], samples, seed + 999)
    return one.reshape(repeats, samples, n), many.reshape(repeats, n)


def excess(higher: Tensor, lower: Tensor) -> tuple[float, float]:
    """Mean of higher − lower over repeats (R, n), averaged over data, and its standard error."""
    gap = higher.mean(0) - lower.mean(0)
    variance = higher.var(0) / len(higher) + lower.var(0) / len(lower)
    return float(gap.mean()), float((variance.mean() / len(gap)).sqrt())


def _same_information(found: Findings, one: Tensor, many: Tensor) -> None:
    samples = one.shape[1]
    pooled = log_mean_exp(one, dim=1)
    gap, error = excess(many, pooled)
    found.evidence |= {"bound_many_minus_pooled": gap, "bound_many_minus_pooled_standard_error": error}
    fixed = float(one.var((0, 1)).max()) < 1e-16
    if fixed and gap > 1e-6 and abs(gap - math.log(samples)) > 1e-3:
        found.note("the noise of the bound does not change with the seed, so K could not be compared with K times one")
    elif gap > 6 * error + 1e-4 and gap > SHARE_OF_LOG_K * math.log(samples):
        found.fail(
            f"the bound of {samples} samples is {gap:.4g} ± {error:.2g} nats above what {samples} samples of one give (log "
            f"{samples} is {math.log(samples):.4g})",
            ABOVE_CAUSE,
        )
    elif (
        abs(gap + math.log(samples)) < max(4 * error, 1e-3) and error < 0.1 * math.log(samples) and _moves(one, many, 6)
    ):
        found.fail(
            f"the bound of {samples} samples is {-gap:.4g} nats, about log {samples}, below what {samples} of one give",
            TWICE_CAUSE,
        )
    else:
        found.passed(f"{samples} samples give no more than {samples} times one sample")


def _moves(one: Tensor, many: Tensor, errors: float) -> bool:
    """Whether the mean bound changes with K; one that averages bounds over samples does not."""
    gap, error = excess(many, one.flatten(0, 1))
    return abs(gap) > errors * error + 1e-4


def _monotone(found: Findings, one: Tensor, many: Tensor) -> None:
    single = one.flatten(0, 1)
    drop, error = excess(single, many)
    found.evidence |= {"bound_rise_with_k": -drop, "bound_rise_with_k_standard_error": error}
    if drop > 6 * error + 1e-4:
        found.fail(
            f"the bound falls by {drop:.4g} ± {error:.2g} nats from K = 1 to K = {one.shape[1]}; it must not",
            FALLS_CAUSE,
        )
    else:
        found.passed("the bound does not fall with K")


def _below_exact(found: Findings, exact: Tensor, one: Tensor, many: Tensor) -> None:
    gap, error = excess(many, exact.expand(len(many), -1))
    found.evidence |= {"bound_minus_exact": gap}
    if gap > 6 * error + 1e-4 or float((one.flatten(0, 1).mean(0) - exact).min()) > 1e-4:
        found.fail(f"the bound exceeds log_prob by {gap:.4g} ± {error:.2g} nats", EXACT_CAUSE)
    else:
        found.passed("the bound does not exceed log_prob")
