"""The class of machines that compute the same floats: stated in every file coded with a float model.

A code decodes only if both sides compute the same numbers to the last bit. Floating-point sums depend on the library,
its instruction set, the number of threads, the batch and the precision of the arithmetic; all of them are recorded, and a
file is refused where they differ. What they leave open, the hash of the decoded integers catches.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from codelength.errors import CodecError
from codelength.models.base import LikelihoodModel

# Environment settings that change which kernels run, and so the floats.
KERNEL_SETTINGS = (
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
)
MAX_THREADS = 1024


@lru_cache(maxsize=1)
def _processor() -> str:
    """Architecture and vendor: linear algebra libraries choose kernels by vendor as well as by instruction set."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("vendor_id"):
                return f"{platform.machine()} {line.partition(':')[2].strip()}"
    return f"{platform.machine()} {platform.processor()}".strip()


def machine_class(model: LikelihoodModel) -> dict[str, Any]:
    """What must agree between the machine that encodes with `model` and the one that decodes, threads aside.

    Raises:
        CodecError: The model is not on the CPU.
    """
    if model.device.type != "cpu":
        raise CodecError(f"the model is on {model.device}; exact coding runs on the CPU: call model.cpu() first")
    found = {name: os.environ[name] for name in KERNEL_SETTINGS if os.environ.get(name)}
    if torch.get_float32_matmul_precision() != "highest":
        found["matmul"] = torch.get_float32_matmul_precision()
    convolution = getattr(getattr(torch.backends.mkldnn, "conv", None), "fp32_precision", "none")  # since torch 2.9
    if convolution not in ("none", "ieee"):
        found["convolution"] = convolution
    if not torch.backends.mkldnn.enabled:
        found["mkldnn"] = "off"
    return {
        "torch": torch.__version__,
        "isa": torch.backends.cpu.get_cpu_capability(),
        "cpu": _processor(),
        "dtype": str(model.dtype).removeprefix("torch."),
        **({"settings": found} if found else {}),
    }


def require_machine(recorded: dict[str, Any], model: LikelihoodModel) -> None:
    """Refuse to decode where floats may differ.

    Raises:
        CodecError: A property of the machine class differs; both values are named.
    """
    here = machine_class(model)
    for name in sorted(here.keys() | recorded.keys()):
        if here.get(name) != recorded.get(name):
            raise CodecError(
                f"the file was coded with {name} {recorded.get(name, 'default')!r} but here it is "
                f"{here.get(name, 'default')!r}; a float model decodes only where it computes the same numbers. "
                "Decode on a machine of that class"
            )


@contextmanager
def coding_mode(model: nn.Module, threads: int) -> Iterator[None]:
    """Inference in evaluation mode with a fixed number of threads; the former state comes back afterwards."""
    before, training = torch.get_num_threads(), model.training
    torch.set_num_threads(threads)
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)
        model.train(training)
