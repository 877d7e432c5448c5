"""Scores of surprise: functions of code lengths, higher for odder data.

likelihood    L, the model's own code length, nats. Known to fail: simple data cost little under any model, odd or not
              (Nalisnick et al., arXiv:1810.09136)
typicality    |L − mean L of clean data|: too cheap is odd too (Nalisnick et al., arXiv:1906.02994)
complexity    L − the least of the codecs' lengths: what the model pays beyond what the image is worth to a codec that knows
              nothing of the data (Serrà et al., arXiv:1909.11480); complexity_png and so on with one codec
ratio         L − the background model's length (Ren et al., arXiv:1906.02845)
joint         the default, below

All of these are functions of one vector of code lengths, v = (log(1 + L), log(1 + PNG), log(1 + WebP), log(1 + JPEG XL)), each
looking along one direction that suits one kind of oddity: raw likelihood alone misses what is simple, complexity alone misses what
is odd to codec and model alike. The default takes no direction: the squared Mahalanobis distance of v from clean data,
(v − m)ᵀ C⁻¹ (v − m), is large where any combination of code lengths is untypical. Logarithms, because lengths of images spread in
proportion. Codes that cannot hold the data are left out; data that are no images have L alone, and the default is then typicality of log L.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codelength.anomaly.lengths import BACKGROUND, CODECS, MODEL, Lengths, stack_codes
from codelength.errors import UsageError, unknown_name

DEFAULT_SCORE = "joint"
RIDGE = 1e-9


@dataclass(frozen=True)
class Scorer:
    """Scores with what they know of clean data.

    Args:
        codes: Codes of the joint score.
        mean_length: Mean L of clean data, nats.
        centre: m, (codes,).
        precision: C⁻¹, (codes, codes).
    """

    codes: tuple[str, ...]
    mean_length: float
    centre: np.ndarray
    precision: np.ndarray

    def names(self, lengths: Lengths) -> tuple[str, ...]:
        """The scores that these code lengths allow, the default first."""
        codecs = [name for name in CODECS if name in lengths.nats]
        some = ["complexity", *(f"complexity_{name}" for name in codecs)] if codecs else []
        ratio = ["ratio"] if BACKGROUND in lengths.nats else []
        return (DEFAULT_SCORE, "likelihood", "typicality", *some, *ratio)

    def score(self, lengths: Lengths, name: str = DEFAULT_SCORE) -> np.ndarray:
        """The score of each datum, (N,) float64.

        Raises:
            UsageError: It is unknown, or needs a code length that was not measured.
        """
        if name not in self.names(lengths):
            raise unknown_name("score", name, self.names(lengths))
        nats, length = lengths.nats, lengths.nats[MODEL]
        if name == "likelihood":
            return length
        if name == "typicality":
            return np.abs(length - self.mean_length)
        if name == "ratio":
            return length - nats[BACKGROUND]
        if name == "complexity":
            return length - np.min([nats[codec] for codec in CODECS if codec in nats], axis=0)
        if name.startswith("complexity_"):
            return length - nats[name.removeprefix("complexity_")]
        away = np.log1p(stack_codes(nats, self.codes)) - self.centre
        return np.einsum("ni,ij,nj->n", away, self.precision, away)


def fit_scorer(lengths: Lengths) -> Scorer:
    """Learn mean and covariance of the code lengths of clean data.

    Raises:
        UsageError: There are fewer than 10 data a code.
    """
    codes = (MODEL, *(name for name in CODECS if name in lengths.nats))
    if len(lengths) < 10 * len(codes):
        raise UsageError(
            f"{len(lengths)} clean data to fit {len(codes)} code lengths; wanted {10 * len(codes)} or more"
        )
    v = np.log1p(stack_codes(lengths.nats, codes))
    covariance = np.atleast_2d(np.cov(v.T))
    ridge = RIDGE * np.trace(covariance) / len(codes) + np.finfo(np.float64).tiny
    precision = np.linalg.inv(covariance + ridge * np.eye(len(codes)))
    return Scorer(codes, float(lengths.nats[MODEL].mean()), v.mean(0), precision)
