"""P6: does the evaluation loop count every datum once, with its own value?"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codelength.adapters.foreign import ForeignModel
from codelength.audit.context import Context
from codelength.audit.subject import ProbeError
from codelength.audit.verdict import Findings, Verdict
from codelength.data.dataset import Split

BATCH_SIZES = (1, 7, 64)
EXAMPLES = 150
PIXEL_CAUSE = "division by H * W instead of C * H * W"
LOOP_CAUSE = "the last batch dropped, a mean of batch means, a denominator of batches * batch size, a fixed number of batches, or data skipped"


def probe(context: Context) -> Verdict:
    """Through the model's own `evaluate(batches)` where it has one, else through this package's loop."""
    found = Findings("P6")
    if context.subject.answers("evaluate") and isinstance(context.subject.model, ForeignModel):
        _own_loop(context, found)
    else:
        _our_loop(context, found)
    return found.verdict()


def batches_of(x: Tensor, size: int) -> list[Tensor]:
    """x in batches of `size`, the last one shorter."""
    return [x[start : start + size] for start in range(0, len(x), size)]


def numbers_in(result: Any) -> dict[str, float]:
    """The scalar numbers in what a loop returned, by name."""
    if isinstance(result, dict):
        found: dict[str, float] = {}
        for key, value in result.items():
            found |= {f"{key} {name}".strip(): number for name, number in numbers_in(value).items()}
        return found
    if isinstance(result, (tuple, list)) and result and not isinstance(result[0], (list, tuple)):
        found = {}
        for i, value in enumerate(result):
            found |= {f"{i} {name}".strip(): number for name, number in numbers_in(value).items()}
        return found
    if isinstance(result, (int, float, np.number)) and not isinstance(result, bool):
        return {"": float(result)}
    if isinstance(result, (Tensor, np.ndarray)) and np.asarray(result).size == 1:
        return {"": float(np.asarray(result).reshape(()))}
    if isinstance(result, (Tensor, np.ndarray)):
        return {"mean": float(np.asarray(result).mean()), "length": float(np.asarray(result).shape[0])}
    return {}


def readings(log_prob: np.ndarray, context: Context) -> dict[str, float]:
    """What an honest loop may return of per-datum log probabilities: name -> value."""
    dims, nats = context.inputs.space.num_dims, -log_prob
    return {
        "nats a datum": float(nats.mean()),
        "bits/dim": float(nats.mean() / dims / math.log(2)),
        "bits a datum": float(nats.mean() / math.log(2)),
        "nats/dim": float(nats.mean() / dims),
        "nats in all": float(nats.sum()),
        "bits in all": float(nats.sum() / math.log(2)),
        "mean log P": float(log_prob.mean()),
        "sum of log P": float(log_prob.sum()),
        "data": float(len(log_prob)),
        "dims": float(len(log_prob) * dims),
        "perplexity": float(np.exp(min(nats.mean() / dims, 700.0))),
    }


def wrong_readings(log_prob: np.ndarray, context: Context) -> dict[str, float]:
    """Values in a wrong unit: per pixel where the channels are left out of the count."""
    sizes = context.inputs.space.sizes
    if len(sizes) != 3 or sizes[0] == 1:
        return {}
    pixels = context.inputs.space.num_dims // sizes[0]
    mean = float(-log_prob.mean())
    return {"bits a pixel": mean / pixels / math.log(2), "nats a pixel": mean / pixels}


def match(value: float, candidates: dict[str, float], tolerance: float) -> str | None:
    """The candidate that `value` equals."""
    for name, candidate in candidates.items():
        if value == candidate or abs(value - candidate) <= tolerance * max(1e-3, abs(candidate)):
            return name
    return None


def _loop_of(model: Any) -> Callable[[list[Tensor]], Any]:
    """The model's loop; what it raises becomes a finding."""

    def evaluate(batches: list[Tensor]) -> Any:
        try:
            return model.evaluate(batches)
        except Exception as error:
            sizes = f"{len(batches)} batches of {len(batches[0])}, the last of {len(batches[-1])}"
            raise ProbeError(f"evaluate raised {type(error).__name__}: {error} on {sizes}") from error

    return evaluate


def _own_loop(context: Context, found: Findings) -> None:
    subject = context.subject
    count = EXAMPLES if not subject.has_log_prob else context.affordable("log_prob", EXAMPLES, 0.02, 71)
    x = torch.cat([context.inputs.data(count // 2), context.inputs.mixed(count - count // 2, "p6")])
    if subject.has_log_prob:
        values = subject.log_prob(x, model=subject.model).numpy()
        _judge(context, found, x, values, _loop_of(subject.model), "")
    else:
        _same_for_all_sizes(context, found, x, _loop_of(subject.model))
    _injected(context, found, x)


def _judge(
    context: Context, found: Findings, x: Tensor, values: np.ndarray, evaluate: Callable[..., Any], prefix: str
) -> None:
    """Every number of the loop, at every batch size, must be an honest reading of the known values."""
    for size in (*BATCH_SIZES, len(x)):
        numbers = numbers_in(evaluate(batches_of(x, size)))
        if not numbers:
            found.fail("evaluate returned no number", "a loop that prints instead of returning")
            return
        expected, wrong = readings(values, context), wrong_readings(values, context)
        named = {name: match(number, expected, 2e-5) for name, number in numbers.items()}
        found.evidence[f"{prefix}loop_at_batch_{size}"] = next(iter(numbers.values()))
        off = [name for name, reading in named.items() if reading is None]
        if not off:
            continue
        number = numbers[off[0]]
        unit = match(number, wrong, 2e-5)
        label = f" ({off[0]})" if off[0] else ""
        found.evidence["expected_nats_a_datum"] = expected["nats a datum"]
        if unit is not None:
            found.fail(
                f"evaluate{label} returns {unit}, not a number a dim: the channels are dims too",
                PIXEL_CAUSE,
            )
        else:
            nearest = min(expected.items(), key=lambda item: abs(item[1] - number) / max(1e-9, abs(item[1])))
            found.fail(
                f"evaluate{label} returns {number:.6g} for {len(x)} data in batches of {size}; their values give {nearest[1]:.6g} "
                f"({nearest[0]})",
                LOOP_CAUSE,
            )
        return
    found.passed(
        f"{prefix}evaluate returns the mean of the known values at batch sizes {', '.join(map(str, BATCH_SIZES))} and {len(x)}"
    )


def check_loop_unit(context: Context, found: Findings) -> None:
    """The unit of what `evaluate` returns, on one batch: dims are counted with their channels."""
    subject = context.subject
    if not subject.has_log_prob or not isinstance(subject.model, ForeignModel):
        return
    x = context.inputs.data(32)
    values = subject.log_prob(x, model=subject.model).numpy()
    for name, number in numbers_in(_loop_of(subject.model)([x])).items():
        unit = match(number, wrong_readings(values, context), 2e-5)
        if unit is not None and match(number, readings(values, context), 2e-5) is None:
            found.fail(f"evaluate {name} returns {unit}: the channels are dims too".replace("  ", " "), PIXEL_CAUSE)
            return
    found.passed("evaluate returns no unit of its own")


def _same_for_all_sizes(context: Context, found: Findings, x: Tensor, evaluate: Callable[..., Any]) -> None:
    """Without exact values: the loop's numbers may differ by noise only.

    A loop may seed its noise, so that its repetitions agree and its batch sizes do not: the noise of a mean is also taken from the
    bound itself, as a share of the mean, which holds in every unit.
    """

    def first(size: int) -> float:
        return next(iter(numbers_in(evaluate(batches_of(x, size))).values()), math.nan)

    results = {size: [first(size) for _ in range(4)] for size in BATCH_SIZES}
    means = [float(np.mean(values)) for values in results.values()]
    noise = max(float(np.std(values)) for values in results.values())
    if context.subject.has_bound:
        bounds = context.repeated_bounds(x, 1, 8, "p6").mean(1)
        noise = max(noise, abs(float(bounds.std() / bounds.mean()) * means[0]))
    gap = max(means) - min(means)
    found.evidence |= {"loop_difference_between_batch_sizes": gap, "loop_noise": noise}
    if not gap <= 6 * noise + 1e-5 * abs(means[0]):
        found.fail(f"evaluate changes by {gap:.4g} with the batch size", LOOP_CAUSE)
    else:
        found.passed("evaluate changes with the batch size by no more than its noise")


def known_values(x: Tensor) -> Tensor:
    """Made-up log probabilities, a function of each datum alone: −1 .. −1001 nats."""
    flat = x.flatten(1).double()
    weights = torch.arange(1, flat.shape[1] + 1, dtype=torch.float64) * 0.7390851332
    return -1 - 1000 * ((flat + 1) * weights).sum(1).sin().abs()


def _injected(context: Context, found: Findings, x: Tensor) -> None:
    """Known values, then a NaN and an infinity, put in place of log_prob in a copy of the object."""
    try:
        copied = copy.deepcopy(context.subject.model.subject)
        plain = numbers_in(copied.evaluate(batches_of(x, 7)))
        copied.log_prob = known_values
        injected = numbers_in(copied.evaluate(batches_of(x, 7)))
    except Exception as error:  # slots, properties, compiled classes: some objects do not let themselves be changed
        found.note(f"known values could not be put in place of log_prob ({type(error).__name__})")
        return
    if injected == plain:
        found.note("evaluate does not call log_prob, so no known values could be put in its place")
        return
    many = torch.cat([x, x.flip(0), context.inputs.mixed(len(x), "p6-many")])
    _judge(context, found, many, known_values(many).numpy(), _loop_of(copied), "known values: ")
    for name, bad in (("NaN", math.nan), ("−infinity", -math.inf)):
        target = known_values(many)[11]
        copied.log_prob = lambda b, bad=bad, target=target: torch.where(
            known_values(b) == target, torch.full((len(b),), bad, dtype=torch.float64), known_values(b)
        )
        try:
            numbers = numbers_in(copied.evaluate(batches_of(many, 7)))
        except Exception:  # refusing is right
            found.passed(f"a {name} is refused")
            continue
        scores = {k: v for k, v in numbers.items() if match(v, {"data": float(len(many))}, 1e-9) is None}
        found.evidence[f"loop_with_{name}"] = next(iter(scores.values()), math.nan)
        if scores and all(math.isfinite(v) for v in scores.values()):
            found.fail(
                f"a datum of log probability {name} is skipped: evaluate returns a finite number",
                "NaN-skipping means, or masks of finite values",
            )
        else:
            found.passed(f"a {name} is not skipped")


def subject_scores(context: Context, x: Tensor) -> Tensor:
    """Whatever the model gives of x, to see which data are finite."""
    if context.subject.has_log_prob:
        return context.subject.log_prob(x, model=context.subject.model)
    return context.subject.bound(x, 1, 0, model=context.subject.model)


def _our_loop(context: Context, found: Findings) -> None:
    """This package's loop gives each datum the same value at every batch size, and counts all."""
    from codelength.evaluation import per_example_nats

    if not context.subject.is_mass:
        found.note("a density of reals has no code length of integers")
        return
    count = BATCH_SIZES[-1] + BATCH_SIZES[1]  # one full batch of the largest size, and a partial one
    x = context.inputs.data(count) if context.audited is not None else context.inputs.mixed(count, "p6")
    scores = subject_scores(context, x)
    if not bool(scores.isfinite().all()):
        found.note(f"{int((~scores.isfinite()).sum())} of {len(x)} data have probability 0 and were left out")
        x = x[scores.isfinite()]
    if not len(x):
        return
    conditions = {name: value.numpy() for name, value in context.subject.conditions(len(x)).items()}
    split = Split(x.numpy(), conditions=conditions)
    results = []
    try:
        for size in BATCH_SIZES:
            results.append(
                per_example_nats(context.subject.model, split, batch_size=size, seed=context.seed).code_length
            )
    except Exception as error:  # a foreign model may raise anything, for instance on a batch of one datum
        found.fail(
            f"the evaluation loop stops: {type(error).__name__}: {error}", "undefined values, or a batch of one datum"
        )
        return
    worst = max(float(np.max(np.abs(r - results[0]) / (1 + np.abs(results[0])))) for r in results)
    found.evidence |= {
        "examples": len(x),
        "scored": min(map(len, results)),
        "batch_size_max_relative_difference": worst,
    }
    if worst > 2e-4 or any(len(r) != len(x) for r in results):
        found.fail(f"values of the same datum differ by {worst:.3g} (relative) between batch sizes", LOOP_CAUSE)
    else:
        found.passed(f"{len(x)} data scored once each, alike at batch sizes {', '.join(map(str, BATCH_SIZES))}")
