"""Which wrong unit or missing constant would explain a total that is not one.

A log probability in bits, per dim or with the wrong sign is log P times a factor s: then Σ exp(f / factor) is 1. A constant that is
missing or counted twice is log P plus c: then log Σ exp f = c.
"""

from __future__ import annotations

import math

import torch

from codelength.audit.context import Context
from codelength.audit.inputs import all_data
from codelength.audit.totals import ENUMERATION_LIMIT, Total, far_too_little, sampled_total
from codelength.audit.verdict import Findings
from codelength.space import Space

UNIT_CAUSE = (
    "nats and bits mixed up, a mean over dims or pixels instead of a sum, the channels left out, or the sign of a loss"
)
CONSTANT_CAUSE = (
    "a density on [0, 1] or [−1, 1] not converted to bins of width 1 (D ln levels), a constant of another bit depth, bins of width "
    "1/255 for 1/256, or a constant counted twice"
)
EXCESS_A_DIM = 0.25


def unit_factors(space: Space) -> dict[str, float]:
    """Name of a wrong unit -> the factor that turns its numbers into nats of the whole datum."""
    dims, ln2 = space.num_dims, math.log(2)
    factors = {"in bits": ln2, "with the opposite sign": -1.0, "in bits with the opposite sign": -ln2}
    if dims > 1:
        factors |= {
            "a mean over dims": float(dims),
            "bits/dim": dims * ln2,
            "nats/dim with the opposite sign": -float(dims),
        }
        factors |= {"bits/dim with the opposite sign": -dims * ln2}
    if space.kind in ("image", "audio") and space.sizes[0] > 1:
        sites = dims // space.sizes[0]
        factors |= {"divided by the channels": float(space.sizes[0]), "a mean over pixels": float(sites)}
        factors |= {"bits a pixel": sites * ln2, "bits a pixel with the opposite sign": -sites * ln2}
    return factors


def constants(space: Space) -> dict[str, float]:
    """Name of a constant -> its nats: what log Σ exp f would be if it were missing."""
    dims, levels = space.num_dims, space.levels
    found = {f"D ln {levels}": dims * math.log(levels), f"D ln {levels}/2": dims * math.log(levels / 2)}
    if levels > 2:
        found |= {
            f"D ln {levels - 1}": dims * math.log(levels - 1),
            f"D ln {levels}/{levels - 1}": dims * math.log(levels / (levels - 1)),
        }
        found |= {f"D ln {levels - 1}/2": dims * math.log((levels - 1) / 2)}
    found |= {f"D * {bits} bits": dims * bits * math.log(2) for bits in range(1, math.ceil(math.log2(levels)))}
    if space.kind in ("image", "audio") and space.sizes[0] > 1:
        sites = dims // space.sizes[0]
        found |= {
            f"(D − pixels) ln {levels}": (dims - sites) * math.log(levels),
            f"pixels ln {levels}": sites * math.log(levels),
        }
    return {name: value for name, value in found.items() if value > 0}


def check_against_conditionals(context: Context, found: Findings) -> None:
    """log_prob against the sum of log conditionals: a constant ratio is a unit, a constant difference a constant."""
    pair = context.table_difference
    if pair is None:
        return
    log_prob, chain = pair
    usable = log_prob.isfinite() & chain.isfinite() & (chain < -1e-6)
    log_prob, chain = log_prob[usable], chain[usable]
    tolerance = 1e-6 if context.subject.in_float64 else 1e-3
    if len(chain) < 3 or bool(((log_prob - chain).abs() <= tolerance * (1 + chain.abs())).all()):
        found.passed("log_prob is in nats, summed over dims: it is the sum of its log conditionals")
        return
    ratio, difference = log_prob / chain, log_prob - chain
    space = context.inputs.space
    found.evidence |= {
        "log_prob_over_conditionals": float(ratio.median()),
        "log_prob_minus_conditionals": float(difference.median()),
    }
    if float(ratio.max() - ratio.min()) < 1e-3 * float(ratio.abs().max()):
        named = min(unit_factors(space).items(), key=lambda item: abs(item[1] * float(ratio.median()) - 1))
        what = f": it looks like {named[0]}" if abs(named[1] * float(ratio.median()) - 1) < 1e-3 else ""
        found.fail(f"log_prob is {float(ratio.median()):.6g} times the sum of log conditionals{what}", UNIT_CAUSE)
    elif float(difference.max() - difference.min()) < 1e-3 * (1 + float(difference.abs().max())):
        found.fail(
            f"log_prob is the sum of log conditionals plus {float(difference.median()):.6g} nats", CONSTANT_CAUSE
        )


def check_total(context: Context, found: Findings) -> None:
    """Where probabilities do not sum to one, the unit or constant that explains it."""
    if context.joint_follows_from_conditionals:
        return
    total = context.log_prob_total
    found.evidence |= total.evidence("joint")
    off = abs(total.log_value) > 1e-4 if total.exact else total.excess or total.log_value < -1
    if not off:
        found.passed(f"the probabilities sum to one ({total.method})" if total.exact else f"no excess ({total.method})")
        return
    space = context.inputs.space
    # An estimate below one is worth naming a constant for only if its samples cover the model.
    sure = total.exact or total.excess or total.effective > 0.2
    for name, constant in constants(space).items() if sure else ():
        for sign, how in ((1, "too little is subtracted"), (-1, "it is subtracted twice")):
            if (
                abs(total.log_value - sign * constant) < 2e-3 * space.num_dims**0.5 + 0.01 * constant
                and constant > 5e-3
            ):
                found.fail(
                    f"log of the total is {total.log_value:.4g}, about {sign * constant:.4g} = {name}: {how}",
                    CONSTANT_CAUSE,
                )
                return
    named = _matching_unit(context, total)
    if named is not None:
        found.evidence["unit"] = named
        found.fail(f"log_prob sums to one only if it is taken to be {named}", UNIT_CAUSE)
    elif total.log_value > EXCESS_A_DIM * space.num_dims and (total.exact or total.excess):
        found.fail(
            f"the total exceeds one by {total.log_value / space.num_dims:.3g} nats in every dim, as a missing constant would",
            CONSTANT_CAUSE,
        )
    elif not total.exact and not total.excess:
        found.passed("no excess, and no wrong unit would explain what was found")


def _matching_unit(context: Context, total: Total) -> str | None:
    """The unit in which the probabilities do sum to one."""
    space, subject = context.inputs.space, context.subject
    everything = all_data(space, ENUMERATION_LIMIT) if total.exact else None
    if everything is not None:
        values = subject.log_prob(everything)
        for name, factor in unit_factors(space).items():
            if abs(float(torch.logsumexp(factor * values, 0))) < 1e-3:
                return name
        return None
    factors = unit_factors(space)
    if not (total.excess or far_too_little(total, space.uniform_nats, -2.0 * space.num_dims)):
        factors = {"in bits": factors["in bits"]}  # a low estimate alone is mostly a hard problem
    for name, factor in factors.items():
        scaled = sampled_total(
            lambda x, factor=factor: factor * subject.log_prob(x),  # type: ignore[misc]
            context.inputs,
            context.points,
            seconds=context.seconds(0.02),
            name=f"unit {name}",
            samples=context.affordable("log_prob", 512, 0.01),
            anneal_steps=min(2000, max(200, 20 * space.num_dims)),
        )
        error = math.sqrt((1 / max(scaled.effective, 1e-9) - 1) / 512)
        if not scaled.excess and abs(scaled.log_value) < min(0.3, 0.1 + 4 * error) and scaled.effective > 0.05:
            return name
    return None
