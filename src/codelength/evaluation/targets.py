"""Texts given sources, measured: exact matches of the likeliest text, and two models side by side, target by target.

The text is decoded greedily: token by token the likeliest. It matches exactly where all tokens are those of the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from codelength.data.dataset import Split
from codelength.evaluation.estimate import evaluation_mode
from codelength.evaluation.statistics import mean_with_error
from codelength.models.base import LikelihoodModel

INTERVAL = 1.96
"""Standard errors to each side of a 95 % interval."""


@dataclass(frozen=True)
class Difference:
    """Mean difference of two models over the same data, with its 95 % interval.

    >>> Difference(1.0, 0.5).excludes_zero
    True
    """

    mean: float
    standard_error: float

    @property
    def low(self) -> float:
        """Lower end."""
        return self.mean - INTERVAL * self.standard_error

    @property
    def high(self) -> float:
        """Upper end."""
        return self.mean + INTERVAL * self.standard_error

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0

    def to_json(self) -> dict[str, float | bool]:
        """The numbers."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "excludes_zero": self.excludes_zero}


def paired_difference(a: np.ndarray, b: np.ndarray, clusters: np.ndarray | None = None) -> Difference:
    """Mean of a − b over data that come in clusters."""
    mean = mean_with_error(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64), clusters)
    return Difference(mean.value, mean.standard_error)


def decode_greedily(model: LikelihoodModel, split: Split, batch_size: int = 100) -> np.ndarray:
    """The likeliest text token by token given each source, (N, T) int64."""
    drawing: Any = model
    rows = []
    with evaluation_mode(model), torch.inference_mode():
        for start in range(0, len(split), batch_size):
            indices = slice(start, min(start + batch_size, len(split)))
            told = {name: value for name, value in split.condition_batch(indices).items() if name in model.conditioning}
            count = indices.stop - indices.start
            rows.append(drawing.sample(count, torch.Generator().manual_seed(0), 0.0, **told).cpu())
    return torch.cat(rows).numpy()


def exact_matches(model: LikelihoodModel, split: Split) -> np.ndarray:
    """Whether the greedily decoded text of each source is the target, (N,) bool."""
    found: np.ndarray = (decode_greedily(model, split) == split.x).all(axis=1)
    return found
