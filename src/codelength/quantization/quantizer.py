"""What a system must say to be quantized."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn

from codelength.integer.calibration import Observations
from codelength.integer.rounding import Activation


class Convert(Protocol):
    """Fill an integer model with a float one's weights; without `compensate` each weight goes to the nearest integer."""

    def __call__(
        self, model: Any, integer: Any, activations: dict[str, Activation], seen: Observations, *, compensate: bool
    ) -> None: ...


@dataclass(frozen=True)
class Quantizer:
    """How a system is quantized.

    Args:
        passes: (model, x, **conditions): run the network on calibration data.
        activations: (model, bits, seen) -> how the inputs of each layer, by name, become integers.
        convert: Fills the integer model.
        layers: Classes of the layers with weights.
    """

    passes: Callable[..., None]
    activations: Callable[[Any, int, Observations], dict[str, Activation]]
    convert: Convert
    layers: tuple[type[nn.Module], ...] = (nn.Linear,)
