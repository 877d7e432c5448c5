"""Which model is better: paired differences on the same data, with their uncertainty.

Both models score the same data, so that the difference of each pair of code lengths is what counts: its spread is
usually far below that of the code lengths themselves.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from codelength.errors import NotComparableError, UsageError
from codelength.evaluation.conditioning import charge_where_needed, differently_told
from codelength.evaluation.record import Evaluation, EvaluationRecord
from codelength.evaluation.statistics import Intervals, holm, intervals
from codelength.units import bits_per_dim

MARKS = {"exact": "", "bound": "<=", "estimate": "~"}
SAME = {
    "measure": "a density and a mass have no common unit",
    "binarization": "binarized in different ways, or not at all, they are different data",
    "expected_over_binarizations": "an expectation over binarizations is another number than one binarization's",
    "levels": "data of other levels are other data",
    "num_dims": "data of other sizes are other data",
    "num_examples": "both must score all data of one split",
    "data_sha256": "the numbers scored differ",
}
"""Fields of the record that must agree, and why; in the order in which they explain most."""


@dataclass(frozen=True)
class Entry:
    """One row of the ranking.

    Args:
        rank: 1 for the shortest code.
        name: Name of the model, made unique.
        record: Its record.
        mark: "" for an exact value, "<=" for a bound, "~" for an estimate.
        notes: What a reader must know before comparing: "not converged", "conditioned on label", ...
    """

    rank: int
    name: str
    record: EvaluationRecord
    mark: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """Switching from `worse` to `better` saves so much.

    Args:
        worse, better: Names of the entries.
        saving_bits_per_dim: Mean difference of the code lengths, >= 0.
        standard_error: Of that difference, over clusters where data come in clusters.
        normal_interval, bootstrap_interval: Of the saving, bits/dim.
        saving_bytes: The saving on all the data, bytes of ideal code.
        win_rate: Share of data that `better` codes shorter; a tie is half a win.
        p_value: Two-sided, of no difference.
        p_corrected: After Holm's correction for the number of pairs.
        verdict: "better", "undecided: WORSE is only bounded" or "no difference shown".
    """

    worse: str
    better: str
    saving_bits_per_dim: float
    standard_error: float
    normal_interval: tuple[float, float]
    bootstrap_interval: tuple[float, float]
    saving_bytes: float
    win_rate: float
    p_value: float
    p_corrected: float
    verdict: str

    def sentence(self) -> str:
        """Say "switching from A to B saves 0.31 ± 0.02 bits/dim", where ± is half the normal interval."""
        half = (self.normal_interval[1] - self.normal_interval[0]) / 2
        digits = 3 if math.isnan(half) or half == 0 else min(max(1 - math.floor(math.log10(half)), 2), 6)
        return (
            f"switching from {self.worse} to {self.better} saves "
            f"{self.saving_bits_per_dim:.{digits}f} ± {half:.{digits}f} bits/dim"
        )


@dataclass(frozen=True)
class Comparison:
    """Ranking and pairs of any number of evaluations of the same data.

    Args:
        entries: By rank.
        pairs: Every pair, `better` ranked before `worse`.
        confidence: Coverage of each interval.
        resamples, seed: Of the bootstrap.
    """

    entries: list[Entry]
    pairs: list[Pair]
    confidence: float
    resamples: int
    seed: int

    def pair(self, worse: str, better: str) -> Pair:
        """The pair of these two names, in the order of their ranks.

        Raises:
            KeyError: There is none.
        """
        for pair in self.pairs:
            if (pair.worse, pair.better) == (worse, better):
                return pair
        raise KeyError(f"no pair {worse!r} -> {better!r}; `better` is the one that ranks before")

    def to_json(self) -> dict[str, Any]:
        """A dictionary for JSON; numbers that do not exist (one datum has no standard error) are None."""
        first = self.entries[0].record
        return {
            "data": first.data,
            "split": first.split,
            "data_sha256": first.data_sha256,
            "num_examples": first.num_examples,
            "num_dims": first.num_dims,
            "confidence": self.confidence,
            "resamples": self.resamples,
            "seed": self.seed,
            "entries": [
                {
                    "rank": e.rank,
                    "name": e.name,
                    "mark": e.mark,
                    "notes": list(e.notes),
                    "record": e.record.model_dump(mode="json"),
                }
                for e in self.entries
            ],
            "pairs": [_without_nan(asdict(pair)) | {"sentence": pair.sentence()} for pair in self.pairs],
        }


def compare(
    evaluations: Sequence[Evaluation],
    *,
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
    charge: bool = False,
) -> Comparison:
    """Rank evaluations of the same data and give every pair's difference with its intervals.

    Args:
        evaluations: One or more; names that repeat are numbered.
        seed, resamples: Of the bootstrap.
        confidence: Coverage of each interval; 1 − confidence is the level of the corrected tests.
        charge: Where some models are conditional and others are not, add the bits of their conditions to them; without
            it such records are refused.

    Raises:
        UsageError: There is no evaluation, or an option is out of range.
        NotComparableError: They measure different things; the field and both values are named.

    Example: `compare([Evaluation.load(a), Evaluation.load(b)]).pairs[0].sentence()`
    """
    if not evaluations or not 0 < confidence < 1 or resamples < 100:
        raise UsageError(
            f"compare: {len(evaluations)} evaluations, confidence={confidence}, resamples={resamples}; wanted one "
            "evaluation or more, a confidence in (0, 1) and 100 resamples or more"
        )
    names = _unique_names([e.record.model for e in evaluations])
    if charge:
        evaluations = charge_where_needed(evaluations)
    refuse_incomparable([e.record for e in evaluations], names)
    order = sorted(range(len(evaluations)), key=lambda i: evaluations[i].record.bits_per_dim)
    ranked = [evaluations[i] for i in order]
    entries = [
        Entry(rank, names[i], e.record, MARKS[e.record.kind], _notes(e.record))
        for rank, (i, e) in enumerate(zip(order, ranked, strict=True), start=1)
    ]
    pairs = _pairs(entries, ranked, seed=seed, resamples=resamples, confidence=confidence)
    return Comparison(entries, pairs, confidence, resamples, seed)


def refuse_incomparable(records: Sequence[EvaluationRecord], names: Sequence[str]) -> None:
    """Raise NotComparableError for the first record that measures another thing than the first one."""
    if differently_told(records):
        told = next(i for i, record in enumerate(records) if record.conditioning)
        bits = records[told].condition_bits
        price = "" if bits is None else f", {bits:.2f} bits a datum"
        raise NotComparableError(
            f"{names[told]} is told {', '.join(records[told].conditioning)} for free and other models are not: P(x | label) is "
            f"no code length of x. Compare with --charge-conditions, which adds what the conditions cost{price}"
        )
    for record, name in zip(records[1:], names[1:], strict=True):
        for field, reason in SAME.items():
            ours, theirs = getattr(records[0], field), getattr(record, field)
            if ours != theirs:
                raise NotComparableError(
                    f"{names[0]} has {field} {ours} ({records[0].data}, {records[0].split}) but {name} has {theirs} "
                    f"({record.data}, {record.split}): {reason}. Evaluate both on the same data and split"
                )


def _pairs(entries: list[Entry], ranked: list[Evaluation], **options: Any) -> list[Pair]:
    """Every pair of the ranking; all differences are resampled together."""
    indices = list(itertools.combinations(range(len(entries)), 2))
    if not indices:
        return []
    num_dims = entries[0].record.num_dims
    lengths = np.stack([bits_per_dim(e.per_example, num_dims) for e in ranked], axis=1)  # (N, models)
    better, worse = np.array(indices).T
    differences = lengths[:, worse] - lengths[:, better]  # (N, pairs)
    result = intervals(differences, ranked[0].clusters, **options)
    wins = (differences > 0).mean(0) + 0.5 * (differences == 0).mean(0)
    corrected = holm(np.nan_to_num(result.p_value, nan=1.0))
    level = 1 - options["confidence"]
    return [
        _pair(entries[w], entries[b], result, column, float(wins[column]), float(corrected[column]), level)
        for column, (b, w) in enumerate(indices)
    ]


def _pair(
    worse: Entry, better: Entry, result: Intervals, column: int, wins: float, corrected: float, level: float
) -> Pair:
    saving = float(result.mean[column])
    if corrected >= level:
        verdict = "no difference shown"
    elif worse.record.kind == "exact":
        verdict = "better"
    else:
        verdict = f"undecided: {worse.name} is only {'bounded' if worse.record.kind == 'bound' else 'estimated'}"
    return Pair(
        worse=worse.name,
        better=better.name,
        saving_bits_per_dim=saving,
        standard_error=float(result.standard_error[column]),
        normal_interval=(float(result.normal[0, column]), float(result.normal[1, column])),
        bootstrap_interval=(float(result.bootstrap[0, column]), float(result.bootstrap[1, column])),
        saving_bytes=saving * better.record.num_dims * better.record.num_examples / 8,
        win_rate=wins,
        p_value=float(result.p_value[column]),
        p_corrected=corrected,
        verdict=verdict,
    )


def _notes(record: EvaluationRecord) -> tuple[str, ...]:
    notes = [f"conditioned on {name}" for name in record.conditioning]
    if record.conditions_charged:
        notes.append(f"{', '.join(record.conditions_charged)} charged: {record.condition_bits:.2f} bits a datum")
    if not record.converged:
        notes.insert(0, "not converged")
    if record.adapts_on_test:
        notes.append("adapts to the data scored")
    return tuple(notes)


def _unique_names(names: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
