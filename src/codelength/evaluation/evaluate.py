"""From a model and data to a record."""

from __future__ import annotations

from typing import Literal

import torch

from codelength.data.dataset import DataSet
from codelength.evaluation.estimate import Progress
from codelength.evaluation.record import Evaluation
from codelength.models.base import LikelihoodModel
from codelength.run import Run


def memorization_floor(num_train: int) -> float:
    """log2 N: the bits a datum that a model spends which knows the N training data by heart.

    >>> memorization_floor(1024)
    10.0
    """
    raise NotImplementedError


def evaluate(
    model: LikelihoodModel,
    data: DataSet,
    split: str,
    *,
    model_name: str,
    family: str,
    samples: int = 1,
    seed: int = 0,
    batch_size: int = 100,
    weights: Literal["ema", "raw"] = "raw",
    augmentation: str | None = None,
    recipe_sha256: str | None = None,
    model_sha256: str | None = None,
    test_evaluations: int | None = None,
    dequantizer: Literal["own", "uniform"] | None = None,
    gap_examples: int = 0,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure `model` on one split of `data`: every datum, once."""
    raise NotImplementedError


def evaluate_run(
    run: Run,
    *,
    data: DataSet | None = None,
    split: str = "validation",
    samples: int | None = None,
    seed: int | None = None,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a run and keep the record in its folder."""
    raise NotImplementedError
