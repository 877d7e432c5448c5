"""scikit-learn estimators with `score_samples` (GaussianMixture, KernelDensity, ...) as models of integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from codelength.adapters.density import Backend, ForeignDensity, Preprocessing
from codelength.errors import UsageError
from codelength.randomness import make_generator
from codelength.space import Space
from codelength.transforms import Dequantized, UniformDequantization


class EstimatorBackend(Backend):
    """A scikit-learn estimator: score_samples gives log densities."""

    def __init__(self, estimator: Any) -> None:
        super().__init__()
        self.estimator = estimator

    def log_density(self, z: Tensor) -> Tensor:
        scores = self.estimator.score_samples(z.detach().cpu().numpy().astype(np.float64))
        return torch.from_numpy(np.asarray(scores, dtype=np.float64)).to(z.dtype)

    def draw(self, n: int) -> Tensor:
        seed = int(torch.randint(2**31, ()))
        if "random_state" in self.estimator.get_params():
            self.estimator.set_params(random_state=seed)
            drawn = self.estimator.sample(n)
        else:
            drawn = self.estimator.sample(n, random_state=seed)
        points = np.asarray(drawn[0] if isinstance(drawn, tuple) else drawn)
        return torch.from_numpy(points[np.random.default_rng(seed).permutation(n)]).to(torch.get_default_dtype())


class DequantizedEstimator(Dequantized):
    """An estimator under uniform dequantization; `fit` fits it to dequantized data."""

    def fit(self, x: Tensor) -> None:
        """Fit the estimator to data x, (N, *shape), with one draw of noise: a density fitted to integers would spike there."""
        y, _ = self.dequantizer.sample(x, 1, make_generator("dequantize-for-fit"), dtype=torch.float64)
        density = self.density
        assert isinstance(density, ForeignDensity)
        assert isinstance(density.backend, EstimatorBackend)
        z, _ = density.preprocessing(y[0])
        density.backend.estimator.fit(z.flatten(1).numpy())


def from_estimator(estimator: Any, space: Space, *, preprocessing: Preprocessing = "rescale") -> DequantizedEstimator:
    """A scikit-learn density estimator, dequantized uniformly.

    Args:
        estimator: With score_samples(X) -> log densities, over vectors of space.num_dims numbers. Fit it to preprocessed,
            dequantized data, or call the adapter's `fit`.
        space: What a datum is.
        preprocessing: From the levels to the estimator's numbers; see `make_preprocessing`.

    Raises:
        UsageError: It has no score_samples.
    """
    if not callable(getattr(estimator, "score_samples", None)):
        raise UsageError(f"{type(estimator).__name__} has no score_samples; wanted a density estimator of scikit-learn")
    density = ForeignDensity(EstimatorBackend(estimator), space, preprocessing)
    return DequantizedEstimator(density, UniformDequantization(space.levels))
