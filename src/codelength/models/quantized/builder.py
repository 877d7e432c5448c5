"""The system `quantized`: the integer form of another system, built from that system's name and options."""

from __future__ import annotations

import importlib
from typing import Any

from codelength.errors import UsageError, unknown_name
from codelength.models.base import LikelihoodModel
from codelength.space import Space

# system -> "module:builder" of its integer form; the builder takes the system's options and bits=.
INTEGER_FORMS: dict[str, str] = {
    "causal_window": "codelength.models.quantized.causal_window:IntegerCausalWindow",
    "gated_pixelcnn": "codelength.models.quantized.gated_pixelcnn:IntegerGatedPixelCNN",
    "idf": "codelength.models.quantized.idf:IntegerIDF",
    "image_transformer": "codelength.models.quantized.pixel_transformer:integer_image_transformer",
    "sparse_transformer": "codelength.models.quantized.pixel_transformer:integer_sparse_transformer",
}
ACTIVATION_BITS = range(8, 13)


def quantized(
    space: Space, *, base: str = "causal_window", options: dict[str, Any] | None = None, activations: int = 10
) -> LikelihoodModel:
    """The integer form of the system `base`, with random weights until a quantized run's are loaded.

    Args:
        space: What the data are.
        base: System of the float model.
        options: Its options.
        activations: Bits of activations, 8 to 12.

    Raises:
        UsageError: The system has no integer form, or an option is out of range.
    """
    if base not in INTEGER_FORMS:
        raise unknown_name("system with an integer form", base, INTEGER_FORMS)
    if activations not in ACTIVATION_BITS:
        raise UsageError(f"quantized: activations={activations}; wanted 8 to 12 bits")
    module, name = INTEGER_FORMS[base].split(":")
    form = getattr(importlib.import_module(module), name)
    try:
        model: LikelihoodModel = form(space, bits=activations, **(options or {}))
    except TypeError as error:
        raise UsageError(f"quantized: {base} does not take the options {options}: {error}") from error
    return model
