"""What becomes of grey values and colours that are taken for probabilities of ones.

A Bernoulli model of grey values v in [0, 1] with "probability" q reports v log q + (1 − v) log(1 − q). That is the expected
log-likelihood of *binarized* data, in which each value is replaced by a coin that shows 1 with probability v. These
figures show such data: for digits, nearly black or white, little is lost; for a photograph nearly everything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from codelength.data import load_data
from codelength.randomness import derive_seed
from codelength.tutorial.drawing import save, sheet, show


def digit() -> np.ndarray:
    """The first digit of mnist5k's test split as intensities, (28, 28), [0, 1]."""
    return np.asarray(load_data("mnist5k").split("test").x[0, 0] / 255.0)


def photograph() -> np.ndarray:
    """A part of scikit-image's photograph of a cat as intensities, (224, 224, 3), [0, 1]."""
    from skimage import data

    return np.asarray(data.chelsea()[30:254, 60:284] / 255.0)


def binarize(intensity: np.ndarray, *names: str) -> np.ndarray:
    """One coin a value: 1 with the value's probability, as a function of the names."""
    generator = np.random.default_rng(derive_seed("figures", *names))
    return np.asarray((generator.random(intensity.shape) < intensity).astype(np.float64))


def noise_bits(intensity: np.ndarray) -> float:
    """Mean entropy of the coins, bits a dim: what no model of binarized data can save.

    >>> noise_bits(np.array([0.0, 0.5, 1.0, 0.5]))
    0.5
    """
    inner = intensity[(intensity > 0) & (intensity < 1)]
    entropy = -(inner * np.log2(inner) + (1 - inner) * np.log2(1 - inner))
    return float(entropy.sum() / intensity.size)


def binarized(path: Path) -> dict[str, Any]:
    """A digit and a photograph, each beside a draw of its binarization."""
    one, grey = digit(), photograph() @ np.array([0.299, 0.587, 0.114])
    figure, axes = sheet(1, 4, 11, 3.1)
    coins, spots = binarize(one, "digit"), binarize(grey, "photograph")
    show(axes[0, 0], one, "a digit, 8 bit")
    show(axes[0, 1], coins, "binarized")
    show(axes[0, 2], grey, "a photograph, grey, 8 bit")
    show(axes[0, 3], spots, "binarized")
    save(figure, path)
    return {
        "digit_noise_bits_per_dim": noise_bits(one),
        "photograph_noise_bits_per_dim": noise_bits(grey),
        "digit_pixels_changed_by_more_than_a_quarter": float((np.abs(coins - one) > 0.25).mean()),
        "photograph_pixels_changed_by_more_than_a_quarter": float((np.abs(spots - grey) > 0.25).mean()),
    }


def speckle(path: Path) -> dict[str, Any]:
    """Colours as emission probabilities: one draw is speckle, and only the mean of many looks like the photograph."""
    colours = photograph()
    figure, axes = sheet(1, 4, 11, 3.1)
    show(axes[0, 0], colours, "emission probabilities")
    numbers: dict[str, Any] = {"expected_rms_error_of_one_draw": float(np.sqrt((colours * (1 - colours)).mean()))}
    for panel, draws in zip(axes[0, 1:], (1, 8, 64), strict=True):
        mean = np.mean([binarize(colours, "speckle", str(i)) for i in range(draws)], axis=0)
        show(panel, mean, "one draw" if draws == 1 else f"mean of {draws} draws")
        numbers[f"rms_error_of_{draws}"] = float(np.sqrt(((mean - colours) ** 2).mean()))
    save(figure, path)
    return numbers
