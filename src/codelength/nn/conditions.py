"""The class as a bias: what a conditional model adds to the units of a layer.

    W x + b   becomes   W x + b + V y,      y the indicator of the class,

a linear map of the class a layer, zero at the start, so that a conditional model begins as the unconditional one.

Reference: Gated PixelCNN, arXiv:1606.05328, eq. (4); PixelCNN++, arXiv:1701.05517, released code (the `h` of its blocks).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from codelength.errors import UsageError
from codelength.space import Space

LABEL = "label"
FEATURES = "features"
"""The condition that is real: (n, F) numbers a datum."""


def label_classes(space: Space, class_conditional: bool) -> int:
    """Number of classes a model is conditioned on: those of the data's labels, or 0 for an unconditional model.

    Raises:
        UsageError: The model is to be conditional but the data have no labels.
    """
    if not class_conditional:
        return 0
    if LABEL not in space.conditions:
        raise UsageError("class_conditional=true but the data have no labels; choose labelled data or set it to false")
    return space.conditions[LABEL]


def conditioning_of(classes: int) -> tuple[str, ...]:
    """The `conditioning` of a model with so many classes: the label, or nothing where there are none."""
    return (LABEL,) if classes else ()


class LabelBias(nn.Module):
    """V of the module's docstring: one row a class, zero at the start.

    Args:
        classes: Number of classes, 1 or more.
        units: Units of the layer.
    """

    def __init__(self, classes: int, units: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(classes, units))

    def forward(self, label: Tensor) -> Tensor:
        """Classes, any shape, to what their units gain, (*shape, units)."""
        return self.weight[label]
