"""Post-training quantization: from a float run to a run of the system `quantized`, a model like any other."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from codelength.data.dataset import Split
from codelength.errors import UsageError, unknown_name
from codelength.integer.calibration import Observations, observe
from codelength.models.base import LikelihoodModel
from codelength.models.quantized.builder import quantized
from codelength.quantization.finetune import FineTuning, finetune
from codelength.quantization.quantizer import Quantizer
from codelength.randomness import derive_seed
from codelength.recipe import ModelConfig
from codelength.run import Run, create_run, load_run, save_run_weights
from codelength.training.batches import take

# system -> "module:name" of its Quantizer.
QUANTIZERS: dict[str, str] = {
    "causal_window": "codelength.quantization.causal_window:QUANTIZER",
    "gated_pixelcnn": "codelength.quantization.gated_pixelcnn:QUANTIZER",
    "idf": "codelength.quantization.idf:QUANTIZER",
    "image_transformer": "codelength.quantization.pixel_transformer:QUANTIZER",
    "sparse_transformer": "codelength.quantization.pixel_transformer:QUANTIZER",
}
DEFAULT_CALIBRATION = 512
Say = Callable[[str], None]


def quantizer_of(system: str) -> Quantizer:
    """The quantizer of a system; raises UsageError where there is none."""
    if system not in QUANTIZERS:
        raise unknown_name("system that can be quantized", system, QUANTIZERS)
    module, name = QUANTIZERS[system].split(":")
    quantizer: Quantizer = getattr(importlib.import_module(module), name)
    return quantizer


def quantize_model(
    model: LikelihoodModel,
    system: str,
    options: dict[str, Any],
    split: Split,
    *,
    bits: int = 10,
    calibration: int = DEFAULT_CALIBRATION,
    tuning: FineTuning | None = None,
    say: Say = lambda text: None,
) -> LikelihoodModel:
    """The integer form of a float model.

    Args:
        model: The float model; fine-tuning changes its weights.
        system: Its system.
        options: The options it was built with.
        split: Training data: calibration data are a seeded choice of them.
        bits: Bits of activations, 8 to 12.
        calibration: Number of calibration data.
        tuning: Fine-tune with simulated rounding first; not without it.
        say: Told what is going on.

    Raises:
        UsageError: The system has no integer form, or an argument is out of range.
    """
    quantizer = quantizer_of(system)
    integer = quantized(model.space, base=system, options=options, activations=bits)
    if calibration < 1:
        raise UsageError(f"quantize: {calibration} calibration data; wanted at least 1")
    chosen = np.random.default_rng(derive_seed("calibration")).permutation(len(split))[:calibration]
    batch = take(split, np.sort(chosen), model.conditioning)

    def look() -> Observations:
        return observe(model, lambda: quantizer.passes(model, batch.x, **batch.conditions), quantizer.layers)

    model.eval()
    seen = look()
    say(f"calibrated on {len(batch.x)} data")
    activations = quantizer.activations(model, bits, seen)
    if tuning is not None:
        finetune(model, activations, split, tuning, say)
        seen = look()
    quantizer.convert(model, integer, activations, seen, compensate=tuning is None)
    return integer.eval()


def quantize_run(
    run: Run,
    out: Path,
    *,
    split: Split,
    bits: int = 10,
    calibration: int = DEFAULT_CALIBRATION,
    tuning: FineTuning | None = None,
    say: Say = lambda text: None,
) -> Run:
    """Quantize a run into the folder `out`; arguments as for `quantize_model`.

    Raises:
        UsageError: `out` holds a run already, or see `quantize_model`.
    """
    if (out / "recipe.yaml").exists():
        raise UsageError(f"{out} holds a run already; choose another folder with --out, or remove it")
    config = run.recipe.model
    quantizer_of(config.system)
    with torch.random.fork_rng(devices=[]):
        integer = quantize_model(
            run.load_model(), config.system, config.options, split,
            bits=bits, calibration=calibration, tuning=tuning, say=say,
        )  # fmt: skip
    options = {"base": config.system, "options": config.options, "activations": bits}
    recipe = run.recipe.model_copy(
        update={
            "name": f"{run.recipe.name}-int{bits}",
            "description": f"{run.recipe.name} in integers, {bits}-bit activations. {run.recipe.description}".strip(),
            "model": ModelConfig(system="quantized", options=options),
        }
    )
    create_run(out, recipe, run.space)
    save_run_weights(out, integer_tensors(integer), run.weights, run.step or 0)
    return load_run(out)


def integer_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What the model saves; all of it integers.

    Raises:
        TypeError: A tensor is not: its arithmetic would not be exact.
    """
    tensors = dict(model.state_dict())
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            raise TypeError(f"integer model: {name} is {tensor.dtype}; wanted integers")
    return tensors
