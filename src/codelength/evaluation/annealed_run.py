"""Annealed importance sampling of a run: a record on real data, and the interval on data the model made."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from codelength.data.dataset import DataSet
from codelength.evaluation.annealed import AnnealingSchedule, anneal, bidirectional
from codelength.evaluation.estimate import PerExample, Progress, evaluation_mode
from codelength.evaluation.fields import data_fields, floor_fields, num_dims_of
from codelength.evaluation.provenance import git_commit, library_versions
from codelength.evaluation.record import Evaluation, EvaluationRecord
from codelength.evaluation.sample import choose_examples, of_examples
from codelength.evaluation.sealed import count_test_evaluations, log_test_evaluation
from codelength.evaluation.statistics import mean_with_error
from codelength.run import Run, write_atomically
from codelength.units import bits_per_dim

DIMS_A_BATCH = 2**19
"""Dims of all chains of a batch: 668 images of 28 x 28."""


def evaluate_run_annealed(
    run: Run,
    schedule: AnnealingSchedule,
    *,
    data: DataSet | None = None,
    split: str = "validation",
    examples: int | None = 100,
    seed: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Estimate the code length of a seeded sample of data by annealing; the record is kept in the run's folder.

    Args:
        run: A run of a latent-variable model.
        schedule: Temperatures, chains, leapfrog steps.
        data: Its own by default.
        split: Test data are counted.
        examples: Data of the sample; None for all.
        seed: The recipe's by default.
        progress: Called with (data done, data in all).

    Raises:
        CodelengthError: The model has no latents, or see `Run.load_model`.
    """
    if data is None:
        from codelength.data import load_data

        data = load_data(run.recipe.data.name, **run.recipe.data.options)
    seed = run.recipe.evaluation.seed if seed is None else seed
    indices = choose_examples(data.split(split), examples, seed)
    total = len(data.split(split))
    part = data if indices is None else of_examples(data, split, indices)
    model = run.load_model()
    count = (
        log_test_evaluation(run.path, data.name, schedule.chains, seed)
        if split == "test"
        else count_test_evaluations(run.path)
    )
    started = time.perf_counter()
    chosen = part.split(split)
    size = max(1, DIMS_A_BATCH // (schedule.chains * num_dims_of(chosen)))
    parts = []
    with evaluation_mode(model):
        for start in range(0, len(chosen), size):
            rows = np.arange(start, min(start + size, len(chosen)))
            x = model.space.validate(chosen.batch(rows))
            parts.append(-anneal(model, x, schedule, examples=rows, seed=seed).value)
            if progress is not None:
                progress(int(rows[-1]) + 1, len(chosen))
    nats = torch.cat(parts).numpy()
    mean, dims = mean_with_error(nats, chosen.clusters), num_dims_of(chosen)
    record = EvaluationRecord(
        model=run.name,
        family=run.family,
        measure=model.measure,
        conditioning=[],
        weights="ema" if run.weights == "ema" else "raw",
        dtype=str(model.dtype).removeprefix("torch."),
        seed=seed,
        annealing_steps=schedule.steps,
        sampled_from=None if indices is None else total,
        model_sha256=run.model_sha256,
        recipe_sha256=run.recipe.sha256(),
        commit=git_commit(),
        library_versions=library_versions(),
        test_evaluations=count,
        converged=True,
        nats_per_example=mean.value,
        bits_per_dim=bits_per_dim(mean.value, dims),
        standard_error_bits_per_dim=bits_per_dim(mean.standard_error, dims) if len(nats) > 1 else None,
        **data_fields(part, split, PerExample(nats, "estimate", schedule.chains)),
        **floor_fields(data.splits.get("train")),
        seconds=time.perf_counter() - started,
    )
    evaluation = Evaluation(record, nats, chosen.clusters, examples=indices)
    evaluation.save(run.path / "evaluation" / record.folder_name())
    return evaluation


def simulated_interval(run: Run, schedule: AnnealingSchedule, n: int, *, seed: int = 0) -> dict[str, Any]:
    """Bidirectional Monte Carlo on n data of the model: what the schedule is worth, kept as JSON in the run's folder.

    Returns:
        Mean lower and upper bound of the code length in nats (the upper end of log P is the lower of the code length),
        their mean gap with its standard error, and the schedule.
    """
    model = run.load_model()
    started = time.perf_counter()
    with evaluation_mode(model):
        _, interval = bidirectional(model, n, schedule, seed=seed)
    gap = (interval.upper - interval.lower).numpy()
    result = {
        "model": run.name,
        "model_sha256": run.model_sha256,
        "data": "simulated by the model",
        "kind": interval.kind,
        "num_examples": n,
        "code_length_lower_nats": float(-interval.upper.mean()),
        "code_length_upper_nats": float(-interval.lower.mean()),
        "gap_nats": float(gap.mean()),
        "gap_standard_error_nats": float(gap.std(ddof=1) / n**0.5) if n > 1 else None,
        "acceptance": float(interval.forward.acceptance.mean()),
        "schedule": asdict(schedule),
        "seed": seed,
        "seconds": time.perf_counter() - started,
    }
    write_atomically(
        run.path / "annealing" / f"simulated-AIS{schedule.steps}.json", json.dumps(result, indent=1).encode()
    )
    return result
