"""Clean data that scores are fitted to and p-values are ranked among: the run's validation data, measured once and kept.

Half of them fit the scores, the other half rank: a datum that shaped the score is not exchangeable with a new one.
"""

from __future__ import annotations

import hashlib
import io
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from codelength.anomaly.conformal import conformal_p_values
from codelength.anomaly.lengths import Lengths, measure_lengths
from codelength.anomaly.scores import Scorer, fit_scorer
from codelength.data.checksums import cache_folder
from codelength.data.dataset import Split
from codelength.data.splitting import stable_order
from codelength.evaluation.estimate import Progress
from codelength.models.base import LikelihoodModel
from codelength.run import write_atomically

CALIBRATION_DATA = 2000


@dataclass(frozen=True)
class Calibration:
    """Scores fitted to clean data, and clean data to rank among.

    Args:
        scorer: The scores.
        ranked: Code lengths of the data that rank.
        seconds: What measuring took; 0 where it was kept from before.
        extra: Other scores of the data that rank, such as "regret": name -> (n,).
    """

    scorer: Scorer
    ranked: Lengths
    seconds: float = 0.0
    extra: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ranked)

    def clean_scores(self, name: str) -> np.ndarray:
        """The score of the data that rank, (n,)."""
        return self.extra[name] if name in self.extra else self.scorer.score(self.ranked, name)

    def p_values(self, name: str, scores: np.ndarray) -> np.ndarray:
        """Conformal p-value of each score, (M,)."""
        return conformal_p_values(self.clean_scores(name), scores)


def chosen_data(split: Split, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of `count` data of a split, a function of the seed: (those that fit, those that rank), disjoint halves."""
    order = stable_order(len(split), seed, "calibration")[:count]
    half = len(order) // 2
    return order[:half], order[half:]


def part_of(split: Split, indices: np.ndarray) -> Split:
    """The data at `indices`, in that order."""
    return Split(
        split.x[indices],
        conditions={name: np.asarray(values)[indices] for name, values in split.conditions.items()},
        intensity=None if split.intensity is None else split.intensity[indices],
    )


def calibrate(
    model: LikelihoodModel,
    clean: Split,
    *,
    background: LikelihoodModel | None = None,
    identity: str = "",
    count: int = CALIBRATION_DATA,
    samples: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> Calibration:
    """Measure clean data and fit the scores.

    Args:
        model, background, samples, progress: See `measure_lengths`.
        clean: Clean data that the model was not trained on: validation data.
        identity: What names model and background, such as their SHA-256; then the code lengths are kept in the user's cache
            folder and taken from there. "" keeps nothing.
        count: Data to measure, at most; half of them rank.
        seed: Chooses them.

    Raises:
        UsageError: There are too few data.
    """
    fit, rank = chosen_data(clean, count, seed)
    chosen = part_of(clean, np.concatenate([fit, rank]))
    path = None if not identity else _cache_path(identity, chosen, samples, seed)
    started = time.perf_counter()
    lengths = _load(path)
    seconds = 0.0
    if lengths is None:
        lengths = measure_lengths(model, chosen, background=background, samples=samples, seed=seed, progress=progress)
        seconds = time.perf_counter() - started
        if path is not None:
            _save(path, lengths)
    middle = len(fit)
    return Calibration(fit_scorer(lengths.at(np.arange(middle))), lengths.at(np.arange(middle, len(lengths))), seconds)


def _cache_path(identity: str, chosen: Split, samples: int, seed: int) -> Path:
    key = "\x1f".join([identity, chosen.fingerprint(), str(samples), str(seed)])
    return cache_folder() / "score" / f"{hashlib.sha256(key.encode()).hexdigest()}.npz"


def _load(path: Path | None) -> Lengths | None:
    if path is None or not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as file:
        return Lengths({name: file[name] for name in file.files})


def _save(path: Path, lengths: Lengths) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **lengths.nats)
    write_atomically(path, buffer.getvalue())
