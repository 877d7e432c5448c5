"""From a model and data to a record: every datum scored once, every field filled."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch

from codelength.data.dataset import DataSet, Split
from codelength.errors import EvaluationError
from codelength.evaluation.bounds import has_converged
from codelength.evaluation.checks import FLOAT64_TOLERANCE, float64_difference
from codelength.evaluation.estimate import PerExample, Progress, per_example_nats
from codelength.evaluation.provenance import git_commit, library_versions, scored_sha256
from codelength.evaluation.record import DequantizerBound, Evaluation, EvaluationRecord
from codelength.evaluation.statistics import Mean, mean_with_error
from codelength.models.base import LikelihoodModel, can
from codelength.randomness import derive_seed
from codelength.run import Run
from codelength.units import bits_per_dim

Weights = Literal["ema", "raw"]
DequantizerChoice = Literal["own", "uniform"]


def memorization_floor(num_train: int) -> float:
    """log2 N: the bits a datum that a model spends which knows the N training data by heart.

    >>> memorization_floor(1024)
    10.0
    """
    return math.log2(num_train)


@dataclass(frozen=True)
class _Settings:
    """How data are scored: the same for the split, the training sample and the float64 check."""

    samples: int
    seed: int
    batch_size: int


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
    weights: Weights = "raw",
    augmentation: str | None = None,
    recipe_sha256: str | None = None,
    model_sha256: str | None = None,
    test_evaluations: int | None = None,
    dequantizer: DequantizerChoice | None = None,
    train: Split | None = None,
    gap_examples: int = 1000,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure `model` on one split of `data`: every datum, once.

    Args:
        model: What is measured; whether the number is exact or a bound follows from its members.
        data, split: What it is measured on; no other split is touched.
        model_name, family, weights, augmentation, recipe_sha256, model_sha256, test_evaluations: For the record.
        samples: K of a bound.
        seed: Seed of the bound's noise and of the samples of data for the checks.
        batch_size: Examples a batch; changes no number.
        dequantizer: Evaluate a dequantized density with its "own" dequantizer or a "uniform" one on [0, 1) only.
            By default with both: both bound the same log P(x), and the tighter is the headline.
        train: The data the model was trained on: gives the gap and the memorization floor.
        gap_examples: Training data scored for the gap, a seeded sample.
        device: Moves the model there first.
        progress: Called with (examples done, examples in all).

    Raises:
        UsageError, SpaceMismatchError: See `per_example_nats`.
        EvaluationError: A code length is not finite (the examples are named), or the model is a density of reals,
            which has no probability of integers.
    """
    if model.measure != "mass":
        raise EvaluationError(
            f"{model_name} is a density of reals, which has no code length of integers; wrap it in Dequantized (a bound) "
            "or Discretized (exact)"
        )
    settings = _Settings(samples, seed, batch_size)
    chosen = data.split(split)
    if device is not None:
        model.to(device)
    started = time.perf_counter()
    results = {
        name: _score(variant, chosen, settings, f"{data.name} {split}", progress=progress)
        for name, variant in _variants(model, dequantizer).items()
    }
    headline = min(results, key=lambda name: float(results[name].code_length.mean()))
    result = results[headline]
    best_model = _variants(model, dequantizer)[headline]
    num_dims = math.prod(chosen.x.shape[1:])
    summary = _summary(result, chosen, num_dims)
    difference = _float64_check(best_model, chosen, num_dims, settings)
    gap = _gap(best_model, train, split, result, chosen, num_dims, settings, gap_examples)
    record = EvaluationRecord(
        model=model_name,
        family=family,
        measure=model.measure,
        conditioning=list(model.conditioning),
        data=data.name,
        split=split,
        data_sha256=scored_sha256(chosen, result.expected_over_binarizations),
        num_examples=len(chosen),
        num_dims=num_dims,
        levels=data.space.levels,
        binarization=data.space.binarization,
        expected_over_binarizations=result.expected_over_binarizations,
        augmentation=augmentation,
        kind=result.kind,
        num_samples=result.num_samples,
        dequantizer=headline or None,
        dequantizer_bounds={
            name: DequantizerBound(**_summary(bound, chosen, num_dims)) for name, bound in results.items() if name
        },
        num_clusters=None if chosen.clusters is None else len(np.unique(chosen.clusters)),
        weights=weights,
        dtype=str(model.dtype).removeprefix("torch."),
        float64_difference=difference,
        seed=seed,
        seconds=time.perf_counter() - started,
        model_sha256=model_sha256 or None,
        recipe_sha256=recipe_sha256,
        commit=git_commit(),
        library_versions=library_versions(),
        test_evaluations=test_evaluations,
        **summary,
        **gap,
    )
    return Evaluation(
        record, result.code_length, chosen.clusters, result.elbo, result.ess, result.k_hat, curve=result.curve
    )


def _variants(model: LikelihoodModel, choice: DequantizerChoice | None) -> dict[str, LikelihoodModel]:
    """Name of the dequantizer -> the model with it; one entry, named "", for a model without."""
    if not can(model, "with_dequantizer"):
        return {"": model}
    from codelength.transforms.dequantization import UniformDequantization

    dequantized: Any = model
    own = type(dequantized.dequantizer).__name__.removesuffix("Dequantization").removesuffix("Dequantizer").lower()
    if isinstance(dequantized.dequantizer, UniformDequantization):
        return {"uniform": model}
    uniform = dequantized.with_dequantizer(UniformDequantization(model.space.levels).to(model.device))
    both = {own or "own": model, "uniform": uniform}
    return both if choice is None else {"uniform": uniform} if choice == "uniform" else {own or "own": model}


def _score(model: LikelihoodModel, split: Split, settings: _Settings, where: str, **options: Any) -> PerExample:
    try:
        return per_example_nats(
            model, split, samples=settings.samples, seed=settings.seed, batch_size=settings.batch_size, **options
        )
    except EvaluationError as error:
        raise EvaluationError(f"{where}: {error}") from error


def _summary(result: PerExample, split: Split, num_dims: int) -> dict[str, Any]:
    """The fields of a record, or of a `DequantizerBound`, that follow from the per-datum numbers."""
    mean = mean_with_error(result.code_length, split.clusters)
    fields: dict[str, Any] = {
        "nats_per_example": mean.value,
        "bits_per_dim": bits_per_dim(mean.value, num_dims),
        "standard_error_bits_per_dim": _finite(bits_per_dim(mean.standard_error, num_dims)),
        "converged": True,
    }
    if result.elbo is not None and result.ess is not None and result.k_hat is not None:
        k_hat = result.k_hat[~np.isnan(result.k_hat)]
        fields |= {
            "elbo_bits_per_dim": _finite(bits_per_dim(float(result.elbo.mean()), num_dims)),
            "ess_median": float(np.median(result.ess)),
            "ess_min": float(result.ess.min()),
            "k_hat_max": float(k_hat.max()) if len(k_hat) else None,
            "converged": has_converged(result.curve, float(np.median(result.ess)), num_dims),
        }
    return fields


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _float64_check(model: LikelihoodModel, split: Split, num_dims: int, settings: _Settings) -> float | None:
    """`float64_difference`, with a warning on stderr where it is large or cannot be computed."""
    try:
        difference = float64_difference(model, split, num_dims, samples=settings.samples, seed=settings.seed)
    except (RuntimeError, TypeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        print(
            f"warning: the model cannot be run in float64 ({first}); float64_difference is not known", file=sys.stderr
        )
        return None
    if difference > FLOAT64_TOLERANCE:
        print(
            f"warning: {str(model.dtype).removeprefix('torch.')} and float64 differ by {difference:.2g} bits/dim a datum "
            f"(more than {FLOAT64_TOLERANCE:g}); evaluate the model in float64",
            file=sys.stderr,
        )
    return difference


def _gap(
    model: LikelihoodModel,
    train: Split | None,
    split: str,
    result: PerExample,
    chosen: Split,
    num_dims: int,
    settings: _Settings,
    gap_examples: int,
) -> dict[str, float | None]:
    """Training minus this split's bits/dim, with its standard error, and the memorization floor."""
    if train is None or len(train) == 0:
        return {}
    fields: dict[str, float | None] = {"memorization_floor_bits": memorization_floor(len(train))}
    count = min(gap_examples, len(train))
    if split == "train" or count == 0:
        return fields
    generator = np.random.default_rng(derive_seed(settings.seed, "train-gap"))
    indices = np.sort(generator.choice(len(train), count, replace=False))
    scored = _score(model, train, settings, "training data", indices=indices)
    clusters = None if train.clusters is None else train.clusters[indices]
    on_train, here = mean_with_error(scored.code_length, clusters), _mean(result, chosen)
    error = math.hypot(on_train.standard_error, here.standard_error)
    return fields | {
        "train_bits_per_dim": bits_per_dim(on_train.value, num_dims),
        "train_minus_test_bits_per_dim": bits_per_dim(on_train.value - here.value, num_dims),
        "train_minus_test_standard_error": _finite(bits_per_dim(error, num_dims)),
    }


def _mean(result: PerExample, split: Split) -> Mean:
    return mean_with_error(result.code_length, split.clusters)


def evaluate_run(
    run: Run,
    *,
    data: DataSet | None = None,
    split: str = "validation",
    samples: int | None = None,
    seed: int | None = None,
    batch_size: int | None = None,
    dequantizer: DequantizerChoice | None = None,
    gap_examples: int = 1000,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a run and keep the record in its folder, `evaluation/<data>-<split>-<estimator>-K<k>/`.

    The test split is touched only when named, and counted before it is scored: `test_evaluations` in the record.

    Args:
        run: The run.
        data: Data to measure on; the run's own by default.
        split: Split of the data.
        samples, seed, batch_size: The recipe's by default.
        dequantizer, gap_examples, device, progress: See `evaluate`. The gap is taken on the run's own data only.

    Raises:
        CodelengthError: See `evaluate` and `Run.load_model`.
    """
    own_data = data is None or data.name == run.recipe.data.name
    if data is None:
        from codelength.data import load_data

        data = load_data(run.recipe.data.name, **run.recipe.data.options)
    data.split(split)  # an unknown split is refused before it could be counted
    model = run.load_model(device=device or "cpu")
    config = run.recipe.evaluation
    samples = config.samples if samples is None else samples
    seed = config.seed if seed is None else seed
    count = (
        _count_test_evaluation(run.path, data.name, samples, seed) if split == "test" else count_test_evaluations(run)
    )
    evaluation = evaluate(
        model,
        data,
        split,
        model_name=run.name,
        family=run.family,
        samples=samples,
        seed=seed,
        batch_size=config.batch_size if batch_size is None else batch_size,
        weights=cast(Weights, run.weights),
        augmentation="horizontal_flip" if run.recipe.training.horizontal_flip else None,
        recipe_sha256=run.recipe.sha256(),
        model_sha256=run.model_sha256,
        test_evaluations=count,
        dequantizer=dequantizer,
        train=data.splits.get("train") if own_data else None,
        gap_examples=gap_examples,
        progress=progress,
    )
    evaluation.save(run.path / "evaluation" / evaluation.record.folder_name())
    return evaluation


def count_test_evaluations(run: Run) -> int:
    """How often the run was evaluated on test data so far."""
    path = _test_log(run.path)
    return len(path.read_bytes().splitlines()) if path.is_file() else 0


def _count_test_evaluation(path: Path, data: str, samples: int, seed: int) -> int:
    """Add a line to the log of test evaluations; returns their number.

    A line is appended in one write, which processes cannot lose to each other, and before the data are scored: an
    evaluation that is killed counts.
    """
    log = _test_log(path)
    log.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"time": time.time(), "data": data, "samples": samples, "seed": seed}) + "\n"
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return len(log.read_bytes().splitlines())


def _test_log(path: Path) -> Path:
    return path / "evaluation" / "test_evaluations.jsonl"
