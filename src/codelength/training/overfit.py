"""`train --overfit N`: can the model memorize N data, and if not, what stops it?

A model that memorizes puts its whole mass on the N training data, 1/N on each: log2 N bits a datum, the memorization
floor (with repeated data, the entropy of their empirical distribution). No distribution has a shorter mean code length
on them. Where a model stays above the floor, either the optimizer has not arrived (expressivity unknown), or it has and
the family cannot put its mass there: independent pixels can memorize one datum, not two that differ in two pixels.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from codelength.data.dataset import DataSet, Split
from codelength.errors import UsageError
from codelength.evaluation.estimate import per_example_nats
from codelength.models.base import can
from codelength.randomness import make_generator
from codelength.recipe import Recipe
from codelength.run import load_run, write_atomically
from codelength.training.batches import is_real, subset, take
from codelength.training.model import fresh_model
from codelength.training.objective import objective
from codelength.units import bits

MEMORIZED_BITS = 1.0  # at most this far above the floor: half of the mass or more lies on the training data
FALLING_SHARE = 0.01  # of the gap, over the last tenth of the training
SMALL_GRADIENT = 0.1  # of the gradient norm at the start
NOISE_DRAWS = 4

Outcome = Literal["memorizes", "optimization", "expressivity"]


@dataclass(frozen=True)
class Memorization:
    """What `--overfit` found.

    Args:
        outcome: "memorizes", or what fails: "optimization" or "expressivity".
        num_examples: N.
        floor_bits: The memorization floor, bits a datum.
        bits_per_datum: Training code length of the kept weights, bits a datum: exact, or a bound at K = 1.
        gap_bits: How far above the floor.
        kind: "exact" or "bound".
        falling_bits: How much the loss still fell over the last tenth of the training, bits a datum.
        gradient_ratio: Norm of the gradient over all N data at the end, as a share of that at the start.
        verdict: All this in a sentence.
    """

    outcome: Outcome
    num_examples: int
    floor_bits: float
    bits_per_datum: float
    gap_bits: float
    kind: str
    falling_bits: float
    gradient_ratio: float
    verdict: str


def narrow(recipe: Recipe, data: DataSet, count: int) -> tuple[Recipe, DataSet]:
    """The recipe and data of a memorization test: the first `count` training data, no more than them a batch.

    Flips, translations and fresh binarizations are left out: they would make more than N data.

    Raises:
        UsageError: `count` is not between 1 and the number of training data.
    """
    train = data.split("train")
    if not 1 <= count <= len(train):
        raise UsageError(f"--overfit {count}: wanted 1 to {len(train)}, the number of training data of {data.name}")
    if is_real(train):
        raise UsageError(
            f"--overfit: {data.name} holds real numbers, whose density has no memorization floor; choose integers"
        )
    first = subset(train, np.arange(count))
    first = Split(first.x, first.clusters, first.conditions)
    changes = {"batch_size": min(recipe.training.batch_size, count), "horizontal_flip": False, "translate": 0}
    narrowed = recipe.model_copy(update={"training": recipe.training.model_copy(update=changes)})
    return narrowed, DataSet(data.name, data.space, {"train": first}, data.licence, data.source)


def memorization_floor(x: np.ndarray) -> float:
    """Entropy of the empirical distribution of the data, bits a datum: log2 N where all differ.

    >>> memorization_floor(np.array([[0], [1], [2], [2]]))
    1.5
    """
    _, counts = np.unique(x.reshape(len(x), -1), axis=0, return_counts=True)
    return float(math.log2(len(x)) - (counts * np.log2(counts)).sum() / len(x))


def examine(folder: Path, recipe: Recipe, data: DataSet, device: torch.device) -> Memorization:
    """Judge the finished run and write `overfit.json` into it."""
    split, run = data.split("train"), load_run(folder)
    model = run.load_model(device=device)
    scored = per_example_nats(model, split, batch_size=recipe.evaluation.batch_size)
    length, floor = bits(float(np.mean(scored.code_length))), memorization_floor(split.x)
    falling = bits(_fall([line["nats"] for line in run.metrics() if line["split"] == "train"]))
    ratio = _gradient_ratio(recipe, data, device, model)
    found = _judge(len(split), floor, length, scored.kind, falling, ratio)
    write_atomically(folder / "overfit.json", json.dumps(asdict(found), indent=1).encode())
    return found


def _judge(count: int, floor: float, length: float, kind: str, falling: float, ratio: float) -> Memorization:
    gap = length - floor
    sign = "" if kind == "exact" else "<= "
    facts = (
        f"{sign}{length:.2f} bits a datum, {gap:.2f} above the memorization floor of {floor:.2f} (log2 of {count} data)"
    )
    outcome: Outcome
    if gap <= MEMORIZED_BITS:
        outcome, meaning = "memorizes", "the model memorizes the data"
    elif falling > FALLING_SHARE * gap or ratio > SMALL_GRADIENT:
        outcome = "optimization"
        meaning = (
            f"optimization fails: the loss fell by {falling:.2f} bits over the last tenth of the training and the gradient is at "
            f"{ratio:.0%} of its start; train longer or change the learning rate before judging the model"
        )
    else:
        outcome = "expressivity"
        meaning = (
            f"expressivity fails: the loss is flat ({falling:.2f} bits over the last tenth) and the gradient small ({ratio:.1%} "
            "of its start), so the family has no better fit near these weights; make the model larger or richer"
        )
    return Memorization(outcome, count, floor, length, gap, kind, falling, ratio, f"{facts}: {meaning}")


def _fall(nats: list[float]) -> float:
    """Loss of the tenth before the last minus loss of the last tenth of the training, nats."""
    tenth = max(1, len(nats) // 10)
    if len(nats) < 2 * tenth:
        return 0.0
    return float(np.mean(nats[-2 * tenth : -tenth]) - np.mean(nats[-tenth:]))


def _gradient_ratio(recipe: Recipe, data: DataSet, device: torch.device, model: Any) -> float:
    if not any(p.requires_grad for p in model.parameters()) or can(model, "fit"):
        return 0.0  # estimated in closed form, or nothing to learn
    start = fresh_model(recipe, data, device)
    x = take(data.split("train"), slice(0, recipe.training.batch_size), model.conditioning)
    if can(start, "initialize"):
        with torch.no_grad():
            start.initialize(x.x.to(device), make_generator(recipe.training.seed, "overfit"), **x.to(device).conditions)
    return _gradient_norm(model, recipe, data) / max(_gradient_norm(start, recipe, data), 1e-30)


def _gradient_norm(model: Any, recipe: Recipe, data: DataSet) -> float:
    """Norm of the gradient of the mean objective over all data, averaged over a few draws of its noise."""
    split, size = data.split("train"), recipe.training.batch_size
    model.eval().zero_grad(set_to_none=True)
    for draw in range(NOISE_DRAWS):
        for start in range(0, len(split), size):
            batch = take(split, slice(start, start + size), model.conditioning).to(model.device)
            noise = make_generator(recipe.training.seed, "overfit", draw, start)
            nats = objective(model, batch.x, noise, batch.conditions)
            (nats.sum() / (len(split) * NOISE_DRAWS)).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients))
