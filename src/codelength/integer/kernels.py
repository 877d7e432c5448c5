"""Which matrix product runs: float32 on integers, or int8 where a self-test proves that it gives the same.

A float32 product of integers is exact in any order of addition while every partial sum stays within 2^24 (proved by
`IntegerLinear`), on hardware that multiplies and adds in float32. Reduced-precision modes (bf16 or TF32 math) do not, and are
refused. int8 kernels accumulate in int32, but some saturate their intermediate 16-bit sums on machines
without VNNI: measured, `torch._int_mm` is wrong at ONEDNN_MAX_CPU_ISA=AVX2 and AVX512_CORE, for some shapes only. So
the self-test runs on saturating inputs of every layer's own shape, and falls back to float32.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from codelength.errors import CodecError, UsageError

EXACT = 2**24
"""Every integer up to here is a float32, and so is every sum and product of integers whose result is within it."""

Kernel = Literal["float32", "int8"]
KERNEL_VARIABLE = "CODELENGTH_INTEGER_KERNEL"
MATH_MODES = ("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE")
TEST_ROWS = (1, 7, 40, 300)
"""Batch sizes of the self-test: libraries choose other kernels for one row, for few and for many."""

_forced: list[Kernel] = []


@contextmanager
def exact_kernel(kernel: Kernel) -> Iterator[None]:
    """Only this kernel for the layers prepared inside: for tests and benchmarks. Results are the same by construction."""
    _forced.append(kernel)
    try:
        yield
    finally:
        _forced.pop()


def kernel_name() -> str:
    """The kernel that is wanted: "auto" (int8 where it passes the self-test), "float32" or "int8".

    Raises:
        UsageError: CODELENGTH_INTEGER_KERNEL names none.
    """
    name = _forced[-1] if _forced else os.environ.get(KERNEL_VARIABLE) or "auto"
    if name not in ("auto", "float32", "int8"):
        raise UsageError(f"{KERNEL_VARIABLE}={name!r}; wanted auto, float32 or int8")
    return name


def require_exact_arithmetic(device: torch.device | str = "cpu") -> None:
    """Refuse to compute where float32 arithmetic is not float32: called when a layer is prepared.

    Raises:
        CodecError: A setting reduces the precision of float32 products, or a product of integers comes out wrong.
    """
    settings = [f"{name}={os.environ[name]}" for name in MATH_MODES if _reduces(os.environ.get(name, ""))]
    if torch.get_float32_matmul_precision() != "highest":
        settings.append(f"torch.set_float32_matmul_precision({torch.get_float32_matmul_precision()!r})")
    precision = getattr(getattr(torch.backends.mkldnn, "matmul", None), "fp32_precision", "none")
    if precision not in ("none", "ieee"):
        settings.append(f"torch.backends.mkldnn.matmul.fp32_precision = {precision!r}")
    if torch.device(device).type == "cuda" and torch.backends.cuda.matmul.allow_tf32:
        settings.append("torch.backends.cuda.matmul.allow_tf32 = True")
    if settings:
        raise CodecError(
            f"{', '.join(settings)}: float32 products may run in a shorter type (bf16, TF32), which cannot hold the sums of an "
            "integer network, so its codes would not decode elsewhere. Unset it and try again"
        )


def _reduces(mode: str) -> bool:
    return mode.upper() not in ("", "STRICT")


def saturating_inputs(weight: Tensor, low: int, high: int) -> Tensor:
    """Inputs, int64 (rows, K), that drive each output of a layer to its two extremes.

    Each row follows the signs of one output's weights, so that its partial sums only grow; the last two hold one bound everywhere.

    Args:
        weight: Integers, (N, K).
        low, high: Bounds of the inputs.
    """
    upwards = torch.where(weight > 0, high, low)
    downwards = torch.where(weight > 0, low, high)
    flat = torch.tensor([[low], [high]], device=weight.device).expand(2, weight.shape[1])
    extremes = torch.cat([upwards, downwards, flat])
    return extremes.repeat(-(-max(TEST_ROWS) // len(extremes)), 1)


def products_are_exact(product: Callable[[Tensor], Tensor], weight: Tensor, low: int, high: int) -> bool:
    """Whether `product`, (M, K) float32 -> (M, N), is right on saturating inputs in every size of batch.

    The reference is a float64 product: sums within 2^53 are exact there in any order.
    """
    inputs = saturating_inputs(weight, low, high)
    expected = inputs.double() @ weight.double().t()
    sizes = (*TEST_ROWS, len(inputs))
    return all(torch.equal(product(inputs[-rows:].float()).double(), expected[-rows:]) for rows in sizes)
