"""Linear probes: how well a linear classifier tells labels from a model's features, which were learned without them.

Features are what a layer of the model is given, averaged over sites or tokens. Standardized on the training data, they go to multinomial logistic regression; its accuracy on other data
is the figure. A model's bits/dim and its probe's accuracy need not improve together: that is what a figure over several checkpoints shows.

Reference: Chen et al., "Generative Pretraining from Pixels", 2020, section 2.3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from codelength.errors import UsageError, unknown_name
from codelength.evaluation.estimate import evaluation_mode
from codelength.models.base import LikelihoodModel


def layer_features(model: LikelihoodModel, x: Tensor, layer: str, *, batch_size: int = 100) -> np.ndarray:
    """What `layer` is given while the model scores x, averaged over sites, (N, F) float32.

    Args:
        model: Exact and unconditional.
        x: Data, (N, *space.shape).
        layer: Name of a module that takes (B, F, H, W), or of sequences (B, T, F).
        batch_size: Data at a time.

    Raises:
        UsageError: No such module, or it is not called with such a tensor.
    """
    modules: dict[str, Any] = dict(model.named_modules())
    if layer not in modules:
        raise unknown_name("layer of the model:", layer, [name for name in modules if name])
    scorer: Any = model
    seen: list[Tensor] = []
    handle = modules[layer].register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].detach()))
    rows = []
    try:
        with evaluation_mode(model), torch.inference_mode():
            for start in range(0, len(x), batch_size):
                seen.clear()
                scorer.log_prob(x[start : start + batch_size])
                if not seen or seen[0].ndim not in (3, 4):
                    raise UsageError(f"layer {layer!r} is given no (B, F, H, W) or (B, T, F); choose another")
                rows.append(seen[0].mean((2, 3) if seen[0].ndim == 4 else 1).float().cpu())
    finally:
        handle.remove()
    return torch.cat(rows).numpy()


def linear_probe(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray, *, penalty: float = 1.0
) -> float:
    """Accuracy on test features (M, F) of logistic regression fitted to training features (N, F).

    Args:
        train, labels: Training features and their classes, (N,).
        test, test_labels: Those that count.
        penalty: Weight of half the squared norm of the coefficients, as scikit-learn's 1 / C.
    """
    from sklearn.linear_model import LogisticRegression

    mean, spread = train.mean(0), train.std(0) + 1e-6
    classifier = LogisticRegression(C=1 / penalty, max_iter=1000)
    classifier.fit((train - mean) / spread, labels)
    return float((classifier.predict((test - mean) / spread) == test_labels).mean())
