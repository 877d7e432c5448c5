"""Which model is better: paired differences on the same data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codelength.evaluation.record import Evaluation, EvaluationRecord


@dataclass(frozen=True)
class Entry:
    """One row of the ranking.

    Args:
        rank: 1 for the shortest code.
        name: Name of the model, made unique.
        record: Its record.
        mark: "" for exact, "<=" for a bound, "<=?" for a bound that has not converged, "~" for an estimate.
    """

    rank: int
    name: str
    record: EvaluationRecord
    mark: str


@dataclass(frozen=True)
class Pair:
    """Switching from `worse` to `better` saves `saving_bits_per_dim`."""

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


@dataclass(frozen=True)
class Comparison:
    """Ranking and pairs of any number of evaluations of the same data."""

    entries: list[Entry]
    pairs: list[Pair]

    def to_json(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        raise NotImplementedError


def compare(
    evaluations: Sequence[Evaluation], *, seed: int = 0, resamples: int = 4000, confidence: float = 0.95
) -> Comparison:
    """Rank evaluations of the same data and give every pair's difference with its intervals."""
    raise NotImplementedError
