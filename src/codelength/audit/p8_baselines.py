"""P8: is the number between what a table reaches and what no model can?"""

from __future__ import annotations

import math

import numpy as np
import torch

from codelength.audit.bound_totals import damped
from codelength.audit.context import Context
from codelength.audit.evidence import LOG_WEALTH_ALARM, log_wealth
from codelength.audit.plausible import plausible_minimum
from codelength.audit.verdict import Findings, Verdict
from codelength.data.dataset import Split
from codelength.models.registry import SYSTEMS, build_model
from codelength.units import bits_per_dim

UNIFORM_MARGIN = 0.02
# A bound of one sample can be that loose before the model behind it must be worse than uniform.
LOOSE_BOUND = 0.5
WORSE_CAUSE = "the wrong unit, sign or preprocessing, another model's weights or an untrained one"
BETTER_CAUSE = "a number that is no code length: a missing normalizer or constant, or a leak of the data being scored"


def probe(context: Context) -> Verdict:
    """Impossible values; then, with data, uniform, context table, plausible minimum and the model's own samples."""
    found, subject = Findings("P8"), context.subject
    if not (subject.has_log_prob or subject.has_bound) or not subject.is_mass:
        found.note("no code length of integers")
        return found.verdict()
    _incompressible(context, found)
    if context.audited is None:
        found.note("no data to compare on: give --data")
        return found.verdict()
    nats = context.code_lengths
    mean = float(nats.mean())
    dims = context.inputs.space.num_dims
    found.evidence |= {"examples": len(nats), "bits_per_dim": bits_per_dim(mean, dims)}
    if not math.isfinite(mean):
        found.fail(
            f"{int((~np.isfinite(nats)).sum())} of {len(nats)} data have an infinite code length",
            "probability 0 for data that occur",
        )
        return found.verdict()
    error = float(nats.std(ddof=1) / math.sqrt(len(nats))) if len(nats) > 1 else math.inf
    _positive(context, found, nats)
    _uniform(context, found, mean, error)
    _table(context, found, nats)
    _minimum(context, found, mean)
    _own_samples(context, found, nats)
    return found.verdict()


def _incompressible(context: Context, found: Findings) -> None:
    """No distribution spends fewer than log(levels) a dim on uniform noise: E p/u <= 1."""
    subject, uniform = context.subject, context.inputs.space.uniform_nats
    x = context.inputs.noise(context.affordable("log_prob", 256, 0.02, 32), "p8")
    if subject.has_log_prob:
        log_p = subject.log_prob(x)
    else:
        log_p, _ = damped(context.repeated_bounds(x[:32], 1, 8, "p8"))
    ratios = (log_p + uniform).numpy()
    found.evidence["noise_bits_per_dim"] = bits_per_dim(-float(log_p.mean()), context.inputs.space.num_dims)
    if log_wealth(ratios) > LOG_WEALTH_ALARM:
        found.fail(
            f"{found.evidence['noise_bits_per_dim']:.4g} bits/dim on uniform noise, which no code can store in fewer than "
            f"{math.log2(context.inputs.space.levels):.4g}",
            BETTER_CAUSE,
        )
    else:
        found.passed("uniform noise is not compressed")


def _positive(context: Context, found: Findings, nats: np.ndarray) -> None:
    if nats.min() < -1e-6:
        found.fail(f"a code length of {nats.min():.4g} nats: a probability above 1", BETTER_CAUSE)


def _uniform(context: Context, found: Findings, mean: float, error: float) -> None:
    uniform = context.inputs.space.uniform_nats
    found.evidence["uniform_bits_per_dim"] = math.log2(context.inputs.space.levels)
    exact = context.subject.has_log_prob
    if mean > uniform * (1 + (UNIFORM_MARGIN if exact else LOOSE_BOUND)) + 5 * error:
        found.fail(f"{mean / uniform:.3g} times the code length of the uniform model", WORSE_CAUSE)
    elif mean > uniform * (1 + 1e-6):
        found.warn(f"no better than the uniform model ({mean / uniform:.4g} of its code length)", WORSE_CAUSE)
    else:
        found.passed("not worse than uniform")


def _table(context: Context, found: Findings, nats: np.ndarray) -> None:
    """A context table fitted on the user's own training data, scored on the same data."""
    if "context_table" not in SYSTEMS or context.train is None or context.inputs.space.kind != "image":
        found.note("no context table: it needs images and a training split")
        return
    assert context.audited is not None
    train = context.train
    few = np.linspace(0, len(train) - 1, min(len(train), 2000)).astype(np.int64)
    table = build_model("context_table", context.inputs.space)
    table.fit(train.batch(few))  # type: ignore[operator]
    with torch.no_grad():
        reference = -table.log_prob(context.audited.batch(context.scored_indices)).double().numpy()  # type: ignore[operator]
    dims, gap = context.inputs.space.num_dims, nats - reference
    error = float(gap.std(ddof=1) / math.sqrt(len(gap))) if len(gap) > 1 else math.inf
    found.evidence["context_table_bits_per_dim"] = bits_per_dim(float(reference.mean()), dims)
    if gap.mean() > 3 * error:
        found.warn(
            f"worse than a context table fitted to {len(few)} training data by {bits_per_dim(float(gap.mean()), dims):.4g} bits/dim",
            "too little training, or a model that cannot see its neighbours",
        )
    else:
        found.passed("not worse than a context table")


def _minimum(context: Context, found: Findings, mean: float) -> None:
    assert context.data is not None
    assert isinstance(context.audited, Split)
    known = plausible_minimum(context.data.name, context.audited.fingerprint())
    value = bits_per_dim(mean, context.inputs.space.num_dims)
    if known is None:
        return
    found.evidence["plausible_minimum_bits_per_dim"] = known
    if value < known:
        found.fail(f"{value:.4g} bits/dim is less than any honest model is known to reach ({known:.4g})", BETTER_CAUSE)
    else:
        found.passed("not better than plausible")


def _own_samples(context: Context, found: Findings, nats: np.ndarray) -> None:
    """Data cheaper than the model's own samples by far: it may know them by heart."""
    drawn = context.own_samples
    if drawn is None or not context.subject.has_log_prob:
        return
    own = -context.subject.log_prob(drawn).numpy()
    if not np.isfinite(own).all():
        found.warn("some of its own samples have probability 0", "sample() and log_prob() disagree")
        return
    error = math.sqrt(own.var() / len(own) + nats.var() / len(nats))
    found.evidence["own_samples_bits_per_dim"] = bits_per_dim(float(own.mean()), context.inputs.space.num_dims)
    if own.mean() > 1.5 * nats.mean() + 6 * error:
        found.warn(
            "the data cost far less than the model's own samples",
            "the data were seen in training, or are simpler than the model expects",
        )
