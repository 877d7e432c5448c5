"""The fields of a record, computed from per-datum numbers."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from codelength.data.dataset import DataSet, Split
from codelength.errors import EvaluationError
from codelength.evaluation.bounds import has_converged
from codelength.evaluation.checks import FLOAT64_TOLERANCE, float64_difference
from codelength.evaluation.estimate import PerExample, per_example_nats
from codelength.evaluation.provenance import scored_sha256
from codelength.evaluation.statistics import mean_with_error
from codelength.models.base import LikelihoodModel
from codelength.randomness import derive_seed
from codelength.units import bits_per_dim


def memorization_floor(num_train: int) -> float:
    """log2 N: the bits a datum that a model spends which knows the N training data by heart.

    >>> memorization_floor(1024)
    10.0
    """
    return math.log2(num_train)


@dataclass(frozen=True)
class Settings:
    """How data are scored: the same for the split, the training sample and the float64 check."""

    samples: int
    seed: int
    batch_size: int


def score(model: LikelihoodModel, split: Split, settings: Settings, where: str, **options: Any) -> PerExample:
    try:
        return per_example_nats(
            model, split, samples=settings.samples, seed=settings.seed, batch_size=settings.batch_size, **options
        )
    except EvaluationError as error:
        raise EvaluationError(f"{where}: {error}") from error


def num_dims_of(split: Split) -> int:
    return math.prod(split.x.shape[1:])


def data_fields(data: DataSet, split: str, result: PerExample) -> dict[str, Any]:
    """The fields of a record that say what was scored."""
    chosen = data.split(split)
    return {
        "data": data.name,
        "split": split,
        "data_sha256": scored_sha256(chosen, result.expected_over_binarizations),
        "num_examples": len(chosen),
        "num_dims": num_dims_of(chosen),
        "levels": data.space.levels,
        "binarization": data.space.binarization,
        "expected_over_binarizations": result.expected_over_binarizations,
        "num_clusters": None if chosen.clusters is None else len(np.unique(chosen.clusters)),
        "kind": result.kind,
        "num_samples": result.num_samples,
    }


def summary_fields(result: PerExample, split: Split) -> dict[str, Any]:
    """The fields of a record, or of a `DequantizerBound`, that follow from the per-datum numbers."""
    num_dims = num_dims_of(split)
    mean = mean_with_error(result.code_length, split.clusters)
    fields: dict[str, Any] = {
        "nats_per_example": mean.value,
        "bits_per_dim": bits_per_dim(mean.value, num_dims),
        "standard_error_bits_per_dim": finite(bits_per_dim(mean.standard_error, num_dims)),
        "converged": True,
    }
    if result.elbo is not None:
        fields["elbo_bits_per_dim"] = finite(bits_per_dim(float(result.elbo.mean()), num_dims))
        # Where the weights are not known there are at most K effective samples.
        ess_median = float(result.num_samples if result.ess is None else np.median(result.ess))
        fields["converged"] = has_converged(result.curve, ess_median, num_dims)
    if result.ess is not None and result.k_hat is not None:
        k_hat = result.k_hat[~np.isnan(result.k_hat)]
        fields |= {
            "ess_median": float(np.median(result.ess)),
            "ess_min": float(result.ess.min()),
            "k_hat_max": float(k_hat.max()) if len(k_hat) else None,
        }
    return fields


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def float64_field(model: LikelihoodModel, split: Split, settings: Settings) -> float | None:
    """`float64_difference`, with a warning on stderr where it is large or cannot be computed."""
    try:
        difference = float64_difference(model, split, num_dims_of(split), samples=settings.samples, seed=settings.seed)
    except (RuntimeError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        print(f"warning: float64_difference is unknown: the model cannot run in float64 ({reason})", file=sys.stderr)
        return None
    if difference is not None and difference > FLOAT64_TOLERANCE:
        print(
            f"warning: {str(model.dtype).removeprefix('torch.')} and float64 differ by {difference:.2g} bits/dim a datum, "
            f"more than {FLOAT64_TOLERANCE:g}; evaluate the model in float64",
            file=sys.stderr,
        )
    return difference


def floor_fields(train: Split | None) -> dict[str, float]:
    return {} if train is None else {"memorization_floor_bits": memorization_floor(len(train))}


def gap_fields(
    model: LikelihoodModel, train: Split | None, here: Split, result: PerExample, settings: Settings, count: int
) -> dict[str, float | None]:
    """Training minus this split's bits/dim, from a seeded sample of `count` training data, with its standard error."""
    if train is None or count == 0:
        return {}
    generator = np.random.default_rng(derive_seed(settings.seed, "train-gap"))
    indices = np.sort(generator.choice(len(train), min(count, len(train)), replace=False))
    scored = score(model, train, settings, "training data", indices=indices)
    on_train = mean_with_error(scored.code_length, None if train.clusters is None else train.clusters[indices])
    on_split = mean_with_error(result.code_length, here.clusters)
    num_dims = num_dims_of(here)
    error = math.hypot(on_train.standard_error, on_split.standard_error)
    return {
        "train_bits_per_dim": bits_per_dim(on_train.value, num_dims),
        "train_minus_test_bits_per_dim": bits_per_dim(on_train.value - on_split.value, num_dims),
        "train_minus_test_standard_error": finite(bits_per_dim(error, num_dims)),
    }
