"""Score data with a run: every score, p-values, what is flagged, what it cost."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from codelength.anomaly.calibration import Calibration
from codelength.anomaly.conformal import check_rate, false_positive_interval
from codelength.anomaly.lengths import MODEL, Lengths, measure_lengths
from codelength.anomaly.regret import latent_regret
from codelength.anomaly.scores import DEFAULT_SCORE
from codelength.data.dataset import Split
from codelength.errors import unknown_name
from codelength.evaluation.estimate import Progress
from codelength.models.base import LikelihoodModel
from codelength.units import bits_per_dim

REGRET = "regret"


@dataclass(frozen=True)
class Scored:
    """N data, scored.

    Args:
        items: Name of each.
        scores: Score -> (N,), higher is odder; `by` first.
        p_values: Score -> (N,), conformal.
        by: The score that ranks.
        rate: The false-positive rate asked for.
        bits_per_dim: Code length of each, (N,).
        calibration: Clean data that the p-values rank among.
        seconds: Score -> CPU-seconds beyond the code lengths it shares, and "pass": one evaluation pass.
    """

    items: list[str]
    scores: dict[str, np.ndarray]
    p_values: dict[str, np.ndarray]
    by: str
    rate: float
    bits_per_dim: np.ndarray
    calibration: int
    seconds: dict[str, float]

    @property
    def order(self) -> np.ndarray:
        """Indices from the most surprising on; equal scores in the order of the data."""
        return np.argsort(-self.scores[self.by], kind="stable")

    @property
    def flagged(self) -> np.ndarray:
        """Whether p <= rate, (N,)."""
        return self.p_values[self.by] <= self.rate

    @property
    def expected_if_clean(self) -> tuple[float, float]:
        """95% interval of the share flagged if all items were clean."""
        return false_positive_interval(self.rate, self.calibration, len(self.items))

    def to_json(self) -> dict[str, Any]:
        """Everything, the most surprising item first."""
        return {
            "score": self.by,
            "false_positive_rate": self.rate,
            "flagged_if_clean_interval": self.expected_if_clean,
            "num_items": len(self.items),
            "num_flagged": int(self.flagged.sum()),
            "num_calibration": self.calibration,
            "seconds": self.seconds,
            "items": [
                {
                    "item": self.items[i],
                    "p_value": float(self.p_values[self.by][i]),
                    "flagged": bool(self.flagged[i]),
                    "bits_per_dim": float(self.bits_per_dim[i]),
                    "scores": {name: float(values[i]) for name, values in self.scores.items()},
                    "p_values": {name: float(values[i]) for name, values in self.p_values.items()},
                }
                for i in self.order
            ],
        }


def score_items(
    model: LikelihoodModel,
    split: Split,
    calibration: Calibration,
    *,
    items: list[str] | None = None,
    background: LikelihoodModel | None = None,
    by: str = DEFAULT_SCORE,
    rate: float = 0.01,
    samples: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
    lengths: Lengths | None = None,
) -> Scored:
    """Score every datum.

    Args:
        model: The model.
        split: The data.
        calibration: Of the same model and background; with "regret" among its extra scores where that is asked for.
        items: Names of the data; their numbers by default.
        background: The background model, for the score "ratio".
        by: The score that ranks.
        rate: Flag data with p <= rate.
        samples, seed, progress: Of the evaluation pass.
        lengths: What the data cost under each code, where it is measured elsewhere.

    Raises:
        UsageError: The score is unknown or cannot be had, or the rate needs more calibration data.
        CodelengthError: See `per_example_nats`.
    """
    check_rate(rate, len(calibration))
    known = [*calibration.scorer.names(calibration.ranked), *calibration.extra]
    if by not in known:
        raise unknown_name("score", by, known)
    if lengths is None:
        lengths = measure_lengths(model, split, background=background, samples=samples, seed=seed, progress=progress)
    scores, seconds = {}, {"pass": lengths.seconds[MODEL]}
    for name in known:
        started = time.process_time()
        if name == REGRET:
            scores[name] = latent_regret(model, split.batch(slice(None)), seed=seed)
        else:
            scores[name] = calibration.scorer.score(lengths, name)
        shared = sum(lengths.seconds[code] for code in _codes_of(name, lengths.seconds))
        seconds[name] = time.process_time() - started + shared
    scores = {by: scores[by], **scores}
    dims = int(np.prod(split.x.shape[1:]))
    return Scored(
        items if items is not None else [str(i) for i in range(len(split))],
        scores,
        {name: calibration.p_values(name, values) for name, values in scores.items()},
        by,
        rate,
        bits_per_dim(lengths.nats[MODEL], dims),
        len(calibration),
        seconds,
    )


def _codes_of(name: str, measured: dict[str, float]) -> list[str]:
    """The codes besides the model's that a score needs."""
    if name in ("likelihood", "typicality", REGRET):
        return []
    if name == "ratio":
        return ["background"]
    if name.startswith("complexity_"):
        return [name.removeprefix("complexity_")]
    return [code for code in measured if code not in (MODEL, "background")]
