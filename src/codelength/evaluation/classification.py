"""Classification as likelihood: accuracy and nats a label, p(label | x) given directly or by Bayes' rule.

A class-conditional model of the data gives p(x | y) for every class, and with a prior p(y)

    p(y | x) = p(x | y) p(y) / Σ_y' p(x | y') p(y').

−ln p(y | x) of the true label is what the label costs once x is known: nats a label, by which it stands beside a classifier that was trained for
nothing else.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from codelength.data.dataset import Split
from codelength.errors import UsageError
from codelength.evaluation.estimate import evaluation_mode
from codelength.evaluation.statistics import mean_with_error
from codelength.models.base import LikelihoodModel, can

LABEL = "label"


@dataclass(frozen=True)
class Classification:
    """How well labels are told.

    Args:
        how: "direct" or "bayes".
        examples: Number of data.
        accuracy: Share of data whose likeliest label is the true one.
        nats_per_label: Mean −ln p(label | x).
        standard_error: Of that mean.
        log_probs: ln p(y | x) of every datum and class, (N, classes).
    """

    how: str
    examples: int
    accuracy: float
    nats_per_label: float
    standard_error: float
    log_probs: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """The numbers, without the table of the data."""
        return {name: value for name, value in asdict(self).items() if name != "log_probs"}


def classify(
    model: LikelihoodModel, split: Split, *, prior: np.ndarray | None = None, batch_size: int = 100
) -> Classification:
    """Classify the data of a split.

    Args:
        model: Exact. Either conditioned on the label, so that Bayes' rule applies, or a model of a label (a vector (1,)) given features.
        split: Data with their labels: as the condition "label", or as the targets themselves.
        prior: p(y) of Bayes' rule, (classes,); uniform by default.
        batch_size: Data a batch.

    Raises:
        UsageError: The model tells no label, or the prior is none.
    """
    scorer: Any = model
    if not can(model, "log_prob"):
        raise UsageError(f"{type(model).__name__} gives a bound only; Bayes' rule wants exact probabilities")
    bayes = tuple(model.conditioning) == (LABEL,)
    if not bayes and not (model.space.kind == "vector" and model.space.shape == (1,)):
        raise UsageError(
            f"{type(model).__name__} is neither conditioned on the label nor a model of one; choose such a run"
        )
    classes = model.space.conditions[LABEL] if bayes else model.space.levels
    labels = np.asarray(split.conditions[LABEL] if bayes else split.x[:, 0] - model.space.offset, dtype=np.int64)
    weights = np.full(classes, 1 / classes) if prior is None else np.asarray(prior, dtype=np.float64)
    if weights.shape != (classes,) or (weights <= 0).any() or abs(weights.sum() - 1) > 1e-6:
        raise UsageError(f"prior of shape {weights.shape}; wanted {classes} positive shares that add up to 1")
    rows = []
    with evaluation_mode(model), torch.inference_mode():
        for start in range(0, len(labels), batch_size):
            indices = np.arange(start, min(start + batch_size, len(labels)))
            x, given = split.batch(indices), split.condition_batch(indices)
            columns = []
            for y in range(classes):
                guess = torch.full((len(indices),), y)
                if bayes:
                    columns.append(scorer.log_prob(x, label=guess).double())
                else:
                    told = {name: given[name] for name in model.conditioning}
                    columns.append(scorer.log_prob(guess.unsqueeze(1) + model.space.offset, **told).double())
            rows.append(torch.stack(columns, dim=1).cpu())
    log_probs = torch.cat(rows)
    if bayes:
        log_probs = torch.log_softmax(log_probs + torch.from_numpy(np.log(weights)), dim=1)
    table = log_probs.numpy()
    nats = -table[np.arange(len(labels)), labels]
    mean = mean_with_error(nats, split.clusters)
    return Classification(
        "bayes" if bayes else "direct",
        len(labels),
        float((table.argmax(1) == labels).mean()),
        mean.value,
        mean.standard_error,
        table,
    )
