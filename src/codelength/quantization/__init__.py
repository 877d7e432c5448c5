"""From trained float models to integer ones: `codelength quantize`."""

from codelength.quantization.finetune import FineTuning
from codelength.quantization.quantize import QUANTIZERS, quantize_model, quantize_run
from codelength.quantization.quantizer import Quantizer

__all__ = ["QUANTIZERS", "FineTuning", "Quantizer", "quantize_model", "quantize_run"]
