"""scikit-learn: one Gaussian with a full covariance matrix, fitted and scored."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from serve import serve
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture


def prepare(options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Options: file (.npz: fitted and scored, float64; log densities go there), variance (added to all), threads."""
    stored = np.load(options["file"])
    fitted, scored = stored["fitted"], stored["scored"]

    def work() -> np.ndarray:
        # One component has nothing to iterate: the least that it can be asked to do.
        mixture = GaussianMixture(1, reg_covar=options["variance"], max_iter=1, init_params="random", random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(fitted)
        scores: np.ndarray = mixture.score_samples(scored)
        return scores

    np.savez(options["file"], scores=work())

    def run() -> None:
        work()

    return run, {}


if __name__ == "__main__":
    serve(prepare)
