"""P3: is a datum's number its own, whatever else is in the batch?"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from codelength.audit.context import Context, relative
from codelength.audit.subject import Probed, ProbeError
from codelength.audit.verdict import Findings, Verdict

CAUSE = (
    "batch normalization with batch statistics, a mean or logsumexp over the batch, normalization or attention across the batch, "
    "parameters set from the first batch"
)
TOLERANCE = {True: 1e-8, False: 2e-4}

# Data scored by one comparison; slow models are compared on about a sixth of them.
ROWS = 200

Score = Callable[[Tensor], Tensor]


def probe(context: Context) -> Verdict:
    """Scores alone, in pairs, among others, among extremes, duplicated and shuffled."""
    found, subject = Findings("P3"), context.subject
    models = [("", subject.model)]
    if subject.precise is not subject.model:
        models.append(("float64 ", subject.precise))
    for prefix, model in models:
        for member, score in _scores(subject, model).items():
            precise = subject.in_float64 and model is subject.precise
            slow = context.affordable(member, ROWS, 0.03, 1) < ROWS
            _compare(context, found, prefix + member, score, TOLERANCE[precise], slow)
    if subject.has_bound:
        _bounds(context, found)
    return found.verdict()


def _scores(subject: Probed, model: Any) -> dict[str, Score]:
    """What the model answers without noise, by name."""
    dtype = subject.real_dtype if model is subject.precise else model.dtype
    scores: dict[str, Score] = {}
    if subject.has_log_prob:
        scores["log_prob"] = partial(subject.log_prob, model=model)
    if subject.has_density:
        scores["density"] = lambda x: subject.density(x.to(dtype) + 0.5, model=model)
    if subject.has_table:
        scores["conditionals"] = partial(subject.table, model=model)
    return scores


def _batches(context: Context, slow: bool = False) -> tuple[Tensor, list[Tensor]]:
    """Data to watch, and the company they are put in."""
    inputs = context.inputs
    if slow:
        return torch.cat([inputs.data(1), inputs.mixed(1, "p3"), inputs.noise(1, "p3")]), [inputs.extremes()[-4:]]
    x = torch.cat([inputs.data(2), inputs.mixed(2, "p3"), inputs.noise(2, "p3")])
    return x, [inputs.extremes(), inputs.noise(7, "company"), inputs.data(30), x.flip(0)]


def _compare(context: Context, found: Findings, name: str, score: Score, tolerance: float, slow: bool) -> None:
    x, company = _batches(context, slow)
    try:
        together = score(x)
        worst = relative(score(x.flip(0)).flip(0), together)
        for i in range(len(x)):
            worst = max(worst, relative(score(x[i : i + 1]), together[i : i + 1]))
        worst = max(worst, relative(score(torch.cat([x[:1]] * 5)), together[:1].expand(5, *together.shape[1:])))
        for others in company:
            worst = max(worst, relative(score(torch.cat([x, others]))[: len(x)], together))
            worst = max(worst, relative(score(torch.cat([others, x]))[-len(x) :], together))
    except ProbeError as error:
        found.fail(str(error), CAUSE)
        return
    found.evidence[f"{name.replace(' ', '_')}_max_relative_difference"] = worst
    if worst > tolerance:
        found.fail(f"{name} of a datum differs by {worst:.3g} (relative) with the batch it is in", CAUSE)
    else:
        found.passed(f"{name} does not depend on the batch")


def _bounds(context: Context, found: Findings) -> None:
    """With the same seed and place in a batch of the same size, a datum's bound must not move when its companions change."""
    subject, (x, company) = context.subject, _batches(context)
    tolerance = TOLERANCE[subject.in_float64]
    others = torch.cat(company)[:12]
    worst = 0.0
    for k in (1, 4):
        try:
            seeds = [context.rng_seed("p3", k, r) % 2**62 for r in range(3)]
            for seed in seeds:
                first = subject.bound(torch.cat([x, others]), k, seed)[: len(x)]
                second = subject.bound(torch.cat([x, others.flip(0)]), k, seed)[: len(x)]
                worst = max(worst, relative(first, second))
            worst = max(worst, _alone(context, x, k))
        except ProbeError as error:
            found.fail(str(error), CAUSE)
            return
    found.evidence["bound_max_relative_difference"] = worst
    if worst > tolerance:
        found.fail(f"the bound of a datum moves by {worst:.3g} (relative) when its companions change", CAUSE)
    else:
        found.passed("the bound of a datum does not depend on its companions")


def _alone(context: Context, x: Tensor, k: int) -> float:
    """Relative excess of |mean bound in a batch − mean bound alone| over what the noise explains, for the first datum."""
    repeats, subject = 24, context.subject
    batch = torch.cat([x[:1], x[1:].repeat(5, 1, *[1] * (x.dim() - 2))]) if x.dim() > 1 else x
    seeds = [context.rng_seed("p3-alone", k, r) % 2**62 for r in range(repeats)]
    alone = torch.stack([subject.bound(x[:1], k, seed)[0] for seed in seeds])
    among = torch.stack([subject.bound(batch, k, seed + 1)[0] for seed in seeds])
    if not bool(alone.isfinite().all() & among.isfinite().all()):
        return 0.0
    error = float(((alone.var() + among.var()) / repeats).sqrt())
    gap = float((alone.mean() - among.mean()).abs())
    return 0.0 if gap <= 7 * error + 1e-6 * (1 + abs(float(alone.mean()))) else gap / (1 + abs(float(alone.mean())))
