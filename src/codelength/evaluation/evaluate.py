"""From a model and data to a record: every datum scored once, every field filled."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch

from codelength import distributed
from codelength.data.dataset import DataSet, Split
from codelength.errors import EvaluationError, UsageError
from codelength.evaluation.conditioning import condition_bits
from codelength.evaluation.estimate import PerExample, Progress
from codelength.evaluation.fields import (
    Settings,
    data_fields,
    finite,
    float64_field,
    floor_fields,
    gap_fields,
    score,
    summary_fields,
)
from codelength.evaluation.provenance import git_commit, library_versions
from codelength.evaluation.record import DequantizerBound, Evaluation, EvaluationRecord, load_record
from codelength.evaluation.sample import choose_examples, of_examples
from codelength.evaluation.sealed import count_test_evaluations, log_test_evaluation
from codelength.evaluation.text import is_text_model, score_text, window_sizes
from codelength.models.base import LikelihoodModel, can
from codelength.run import Run

Weights = Literal["ema", "raw"]
DequantizerChoice = Literal["own", "uniform"]
Engine = Literal["local", "ray"]
Scorer = Callable[[str, LikelihoodModel, Split], PerExample]


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
    examples: int | None = None,
    context: int | None = None,
    stride: int | None = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
    scorer: Scorer | None = None,
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
        examples: Score a seeded sample of so many data of the split; all by default. The record says so and lists them.
        context, stride: Of text: longest window and step from one to the next, in tokens; the model's own by default.
        device: Moves the model there first.
        progress: Called with (examples done, examples in all).
        scorer: Scores the split in place of `per_example_nats`: (name of the model's variant, variant, split) -> result.

    Raises:
        UsageError, SpaceMismatchError: See `per_example_nats`.
        EvaluationError: A code length is not finite (the examples are named), or the model is a density of reals,
            which has no probability of integers.
    """
    _refuse_density(model, model_name)
    settings = Settings(samples, seed, batch_size)
    sampled = choose_examples(data.split(split), examples, seed)
    sampled_from = None if sampled is None else len(data.split(split))
    data = data if sampled is None else of_examples(data, split, sampled)
    chosen = data.split(split)
    if device is not None:
        model.to(device)
    started = time.perf_counter()
    text: dict[str, Any] = {}
    if split in data.texts and sampled is None and is_text_model(model):
        sizes = dict(zip(("context", "stride"), window_sizes(model, context, stride), strict=True))
        of_windows = chosen
        chosen, scored, text = score_text(model, data.texts[split], **sizes, batch_size=batch_size, progress=progress)
        data, train = replace(data, splits={split: chosen}), None
    elif context is not None or stride is not None:
        raise UsageError("--context and --stride are for a model of tokens on text data; leave them out")
    if text:
        variants, results = {"": model}, {"": scored}
    else:
        variants, results = _scores(model, dequantizer, chosen, settings, f"{data.name} {split}", progress, scorer)
    headline = min(results, key=lambda name: float(results[name].code_length.mean()))
    result, best = results[headline], variants[headline]
    record = EvaluationRecord(
        model=model_name,
        family=family,
        measure=model.measure,
        conditioning=list(model.conditioning),
        condition_bits=condition_bits(model),
        augmentation=augmentation,
        dequantizer=headline or None,
        dequantizer_bounds={name: DequantizerBound(**summary_fields(r, chosen)) for name, r in results.items() if name},
        weights=weights,
        dtype=str(model.dtype).removeprefix("torch."),
        float64_difference=float64_field(best, of_windows if text else chosen, settings),
        seed=seed,
        model_sha256=model_sha256 or None,
        recipe_sha256=recipe_sha256,
        commit=git_commit(),
        library_versions=library_versions(),
        test_evaluations=test_evaluations,
        sampled_from=sampled_from,
        elbo_terms={name: finite(float(values.mean())) for name, values in result.terms.items()},
        **data_fields(data, split, result),
        **summary_fields(result, chosen),
        **({} if split == "train" else gap_fields(best, train, chosen, result, settings, gap_examples)),
        **floor_fields(train),
        **text,
        seconds=time.perf_counter() - started,
    )
    return Evaluation(
        record,
        result.code_length,
        chosen.clusters,
        result.elbo,
        result.ess,
        result.k_hat,
        sampled,
        np.stack(list(result.terms.values())) if result.terms else None,
        result.curve,
    )


def _scores(
    model: LikelihoodModel,
    dequantizer: DequantizerChoice | None,
    split: Split,
    settings: Settings,
    where: str,
    progress: Progress | None,
    scorer: Scorer | None,
) -> tuple[dict[str, LikelihoodModel], dict[str, PerExample]]:
    """The model with each dequantizer, "" where it has none, and what each scores."""
    variants = dequantizer_variants(model, dequantizer)
    if scorer is not None:
        return variants, {name: scorer(name, variant, split) for name, variant in variants.items()}
    return variants, {name: score(m, split, settings, where, progress=progress) for name, m in variants.items()}


def _refuse_density(model: LikelihoodModel, name: str) -> None:
    if model.measure != "mass":
        raise EvaluationError(
            f"{name} is a density of reals, which has no code length of integers; wrap it in Dequantized (a bound) "
            "or Discretized (exact)"
        )


def dequantizer_variants(model: LikelihoodModel, choice: DequantizerChoice | None = None) -> dict[str, LikelihoodModel]:
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
    examples: int | None = None,
    context: int | None = None,
    stride: int | None = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
    engine: Engine = "local",
    data_source: tuple[str, dict[str, Any]] | None = None,
    workers: int | None = None,
) -> Evaluation:
    """Measure a run and keep the record in its folder, `evaluation/<data>-<split>-<estimator>-K<k>/`.

    The test split is touched only when named, and counted before it is scored: `test_evaluations` in the record.

    Args:
        run: The run.
        data: Data to measure on; the run's own by default.
        split: Split of the data.
        samples, seed, batch_size: The recipe's by default.
        dequantizer, gap_examples, examples, context, stride, device, progress: See `evaluate`. The gap is taken on the run's own data only.
        engine: "ray": the split is scored by the workers of a Ray cluster (`codelength.cluster`), which load the data by
            their name.
        data_source: Name and options by which they load `data`, where it is given.
        workers: Their number; one a CPU by default.

    Raises:
        CodelengthError: See `evaluate` and `Run.load_model`.
    """
    own_data = data is None or data.name == run.recipe.data.name
    if data is None:
        from codelength.data import load_data

        data = load_data(run.recipe.data.name, **run.recipe.data.options)
    data.split(split)  # an unknown split is refused before it could be counted
    if engine == "ray" and examples is not None:
        raise UsageError("--engine ray scores whole splits; leave out --examples, or score the sample on this machine")
    model = run.load_model(device=device or "cpu")
    config = run.recipe.evaluation
    samples = config.samples if samples is None else samples
    seed = config.seed if seed is None else seed
    count = 0
    if distributed.is_first():
        count = (
            log_test_evaluation(run.path, data.name, samples, seed)
            if split == "test"
            else count_test_evaluations(run.path)
        )
    count = distributed.from_first(count)
    batch_size = config.batch_size if batch_size is None else batch_size
    scorer = None
    if engine == "ray":
        from codelength.cluster import ray_scorer

        known = data_source or (run.recipe.data.name, run.recipe.data.options)
        settings: dict[str, Any] = {"samples": samples, "seed": seed, "batch_size": batch_size}
        scorer = ray_scorer(run.path.resolve(), *known, split, workers=workers, progress=progress, **settings)
    evaluation = evaluate(
        model,
        data,
        split,
        model_name=run.name,
        family=run.family,
        samples=samples,
        seed=seed,
        batch_size=batch_size,
        weights=cast(Weights, run.weights),
        augmentation=run.recipe.training.augmentation,
        recipe_sha256=run.recipe.sha256(),
        model_sha256=run.model_sha256,
        test_evaluations=count,
        dequantizer=dequantizer,
        train=data.splits.get("train") if own_data else None,
        gap_examples=gap_examples,
        examples=examples,
        context=context,
        stride=stride,
        progress=progress,
        scorer=scorer,
    )
    folder = run.path / "evaluation" / evaluation.record.folder_name()
    evaluation = replace(evaluation, record=_with_coded(evaluation.record, folder))
    evaluation.save(folder)
    return evaluation


def _with_coded(record: EvaluationRecord, folder: Path) -> EvaluationRecord:
    """The record with the coded size of the one it replaces, where weights and data are the same."""
    if record.model_sha256 is None or not (folder / "record.json").is_file():
        return record
    before = load_record(folder)
    if (before.model_sha256, before.data_sha256) != (record.model_sha256, record.data_sha256):
        return record
    coded = {name: getattr(before, name) for name in ("coded_bits_per_dim", "coded_total_bytes")}
    return record.model_copy(update=coded)
