"""P1: is it a probability distribution? Everything it hands out must sum to one, and never to more."""

from __future__ import annotations

import math

import torch

from codelength.audit.bound_totals import check_bound_sums
from codelength.audit.context import Context, relative
from codelength.audit.density_totals import density_total
from codelength.audit.evidence import log_mean, log_wealth, proves_excess
from codelength.audit.reference import Reference
from codelength.audit.totals import Total, far_too_little
from codelength.audit.verdict import Findings, Verdict

SUM_TOLERANCE = 1e-6
FLOAT32_SUM_TOLERANCE = 1e-4
EXCESS_CAUSE = (
    "a probability computed only for the value that occurred, a missing or misplaced normalizer or log K, averaged logits, a missing "
    "constant of dequantization, or data outside the likelihood's support (grey values under a Bernoulli)"
)
DEFICIT_CAUSE = (
    "edge bins that are not open, mass on values that cannot occur, an approximated mass, or bits taken for nats"
)


def probe(context: Context) -> Verdict:
    """Conditionals, the joint over the whole space or from samples, densities and bounds: whichever the model has."""
    found, subject = Findings("P1"), context.subject
    if subject.has_table:
        _conditionals(context, found)
        _agreement(context, found)
    if subject.has_log_prob:
        _joint(context, found)
    if subject.has_density:
        _density(context, found)
    if subject.has_bound and subject.is_mass:
        check_bound_sums(context, found)
    return found.verdict()


def sum_tolerance(context: Context) -> float:
    """1e-6 in float64; 1e-4 for a model that only computes in float32."""
    return SUM_TOLERANCE if context.subject.in_float64 else FLOAT32_SUM_TOLERANCE


def _conditionals(context: Context, found: Findings) -> None:
    """Every row of the table sums to 1 and holds no negative number, whatever the values before it."""
    subject, inputs, tolerance = context.subject, context.inputs, sum_tolerance(context)
    worst, rows = 0.0, 0
    x = torch.cat([inputs.extremes(), inputs.data(16)])
    for attempt in range(24):
        table = subject.table(x)
        sums, low = table.sum(-1), float(table.min())
        worst, rows = max(worst, float((sums - 1).abs().max()), -low), rows + sums.numel()
        if worst > tolerance or context.seconds(0.1) < 0.3:
            break
        count = context.affordable("conditionals", 40, 0.002, 2)
        x = torch.cat([inputs.noise(count, f"p1-{attempt}"), inputs.mixed(count, f"p1-{attempt}")])
    found.evidence |= {"conditional_rows": rows, "conditional_max_deviation": worst}
    if worst > tolerance:
        where = (sums - 1).abs().argmax()
        value = float(sums.flatten()[where])
        found.evidence["conditional_worst_sum"] = value
        found.fail(
            f"the probabilities of one dim sum to {value:.6g} instead of 1"
            if low >= 0
            else f"a probability of {low:.3g}",
            EXCESS_CAUSE if value > 1 else DEFICIT_CAUSE,
        )
    else:
        found.passed(f"{rows} conditionals sum to 1 within {worst:.1e}")


def _agreement(context: Context, found: Findings) -> None:
    """log_prob is the sum of the log conditionals it is said to be made of."""
    pair = context.table_difference
    if pair is None:
        return
    log_prob, chain = pair
    gap = relative(log_prob, chain)
    found.evidence["log_prob_minus_conditionals_max"] = float((log_prob - chain).abs().nan_to_num().max())
    if gap > (1e-6 if context.subject.in_float64 else 1e-3):
        found.fail(
            f"log_prob differs from the sum of log conditionals by up to {found.evidence['log_prob_minus_conditionals_max']:.4g} nats",
            "log_prob mixes in something the conditionals do not have (a cache, a bonus for the true symbol), or another unit",
        )
    else:
        found.passed("log_prob is the sum of its log conditionals")


def _joint(context: Context, found: Findings) -> None:
    if context.joint_follows_from_conditionals:
        return
    total = context.log_prob_total
    found.evidence |= total.evidence("joint")
    judge_total(context, found, total, "probabilities of all data" if total.exact else "probabilities")
    if not total.exact:
        _distinct_data(context, found)
        _reverse(context, found, total)


def judge_total(context: Context, found: Findings, total: Total, what: str) -> None:
    """A finding from a total: two-sided where exact, above one only where sampled."""
    size = math.exp(min(total.log_value, 700.0))
    if total.exact:
        tolerance = 10 * sum_tolerance(context)
        if abs(math.expm1(min(total.log_value, 700.0))) > tolerance:
            found.fail(
                f"the {what} sum to {size:.6g} instead of 1", EXCESS_CAUSE if total.log_value > 0 else DEFICIT_CAUSE
            )
        else:
            found.passed(f"the {what} ({total.count}) sum to 1 within {abs(size - 1):.1e}")
    elif total.excess:
        found.fail(
            f"the {what} sum to more than 1: mean ratio to a normalized reference e^{total.log_mean_ratio:.1f}, e-value "
            f"e^{total.log_wealth:.1f}, estimated sum e^{total.log_value:.1f}",
            EXCESS_CAUSE,
        )
    elif far_too_little(total, context.inputs.space.uniform_nats, -2.0 * context.inputs.space.num_dims):
        found.fail(f"the {what} sum to far less than 1 (estimate e^{total.log_value:.1f})", DEFICIT_CAUSE)
    else:
        found.passed(f"no evidence of a sum above 1 in {total.count} data ({total.method})")
        if total.log_value < math.log(0.9) and total.effective > 0.3:
            found.note(f"the sum was estimated to be {size:.3g}, which may miss narrow peaks")


def _distinct_data(context: Context, found: Findings) -> None:
    """The probabilities of the distinct data seen cannot sum to more than 1: no model is better than knowing them by heart."""
    data = context.inputs.data(context.affordable("log_prob", 2000))
    distinct = torch.unique(data.flatten(1), dim=0).reshape(-1, *data.shape[1:])
    log_sum = float(torch.logsumexp(context.subject.log_prob(distinct), 0))
    found.evidence["distinct_data_log_sum"] = log_sum
    if log_sum > 1e-3:
        found.fail(
            f"{len(distinct)} distinct data alone have probabilities that sum to e^{log_sum:.3g}, more than 1",
            EXCESS_CAUSE,
        )


def _reverse(context: Context, found: Findings, total: Total) -> None:
    """E over the model's own samples of q / p is Σ q <= 1, unless p sums to less than 1 or the samples are not from p."""
    drawn = context.own_samples
    if drawn is None or total.excess or len(drawn) < 64:
        return
    half = drawn[len(drawn) // 2 :]
    fit = [context._flat(drawn[: len(drawn) // 2])]
    reference = Reference.fit(fit, context.inputs.space.levels)
    log_p = context.subject.log_prob(half).numpy()
    ratios = reference.log_prob(context._flat(half)) - log_p
    found.evidence |= {"reverse_log_e_value": log_wealth(ratios), "reverse_log_mean_ratio": log_mean(ratios)}
    if proves_excess(ratios):
        found.fail(
            f"at its own samples log_prob is lower than that of a normalized reference (e-value e^{log_wealth(ratios):.1f}): the "
            "probabilities sum to less than 1, or sample() draws from another distribution",
            DEFICIT_CAUSE,
        )


def _density(context: Context, found: Findings) -> None:
    total = density_total(context)
    found.evidence |= total.evidence("density")
    judge_density(context, found, total)


def judge_density(context: Context, found: Findings, total: Total) -> None:
    """A finding from the integral of a density."""
    size = math.exp(min(total.log_value, 700.0))
    if total.exact and abs(size - 1) > 5e-3 and total.log_value > 0:
        found.fail(f"the density integrates to {size:.5g} instead of 1", EXCESS_CAUSE)
    elif total.excess:
        found.fail(
            f"the density integrates to more than 1: e-value e^{total.log_wealth:.1f}, estimate e^{total.log_value:.2f}",
            "a missing Jacobian of the preprocessing, or a constant of the rescaling",
        )
    elif far_too_little(total, context.inputs.space.uniform_nats, -3.0 * context.inputs.space.num_dims):
        found.fail(
            f"the density integrates to about e^{total.log_value:.1f} instead of 1",
            "a Jacobian or a constant of the rescaling with the wrong sign, counted twice or missing",
        )
    elif size < (0.995 if total.exact else 0.7) and total.effective > 0.5:
        found.warn(
            f"the density seems to integrate to {size:.4g} instead of 1 ({total.method})",
            "a Jacobian or constant that is off, or narrow peaks that were not found",
        )
    else:
        estimate = f", estimate {size:.3g}" if total.effective > 0 else ""
        found.passed(f"the density's integral is not above 1 ({total.method}{estimate})")
