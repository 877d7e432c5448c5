"""Exactness of products: against int64, under saturating inputs, and the refusals."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from codelength.errors import CodecError, UsageError
from codelength.integer import IntegerLinear, exact_kernel
from codelength.integer.kernels import (
    EXACT,
    KERNEL_VARIABLE,
    kernel_name,
    products_are_exact,
    require_exact_arithmetic,
    saturating_inputs,
)
from codelength.integer.linear import int8_product, partial_sum_bound


def layer(
    inputs: int, outputs: int, bits: int, *, seed: int = 0, blocks: int | None = None, limit: int = 127
) -> IntegerLinear:
    made = IntegerLinear(inputs, outputs, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1, blocks=blocks)
    generator = torch.Generator().manual_seed(seed)
    made.weight.copy_(torch.randint(-limit, limit + 1, (outputs, inputs), generator=generator))
    return made


def reference(made: IntegerLinear, inputs: Tensor) -> Tensor:
    return inputs.long() @ made.weight.long().t()


@pytest.mark.parametrize("kernel", ["float32", "int8"])
@pytest.mark.parametrize("bits", [8, 9, 10, 12])
@pytest.mark.parametrize(("inputs", "outputs"), [(384, 40), (7, 3), (130, 1)])
def test_sums_equal_int64_on_saturating_inputs(kernel, bits, inputs, outputs):
    with exact_kernel(kernel):
        made = layer(inputs, outputs, bits)
        x = saturating_inputs(made.weight, made.low, made.high)
        try:
            sums = made(x.float())
        except CodecError:
            if kernel == "int8":
                pytest.skip("this machine's int8 kernels saturate")
            raise
    assert torch.equal(sums.long(), reference(made, x))
    assert int(reference(made, x).abs().max()) <= made.bound


def test_wide_layers_are_split_and_come_out_as_int32():
    with exact_kernel("float32"):
        made = layer(2048, 5, 12)
        assert made.bound > EXACT
        assert made.wide
        assert len(made.derived["sizes"]) > 1
        x = saturating_inputs(made.weight, made.low, made.high)
        sums = made(x.float())
    assert sums.dtype == torch.int32
    assert torch.equal(sums.long(), reference(made, x))


def test_the_proof_refuses_an_unsafe_layer():
    """Control: the refused layer really is wrong when its products run in one block."""
    made = layer(2048, 5, 12, blocks=1)
    with pytest.raises(CodecError, match=r"partial sums reach \d+ in 1 block"):
        made(torch.zeros(1, 2048))
    # Odd sums beyond 2^24 are no float32, whatever the order of addition.
    weight = torch.full((1, 2048), 127)
    x = torch.full((1, 2048), 2047)
    x[0, 0] = 2046
    exact = (x @ weight.t()).item()
    assert exact > EXACT
    assert torch.mm(x.float(), weight.t().float()).double().item() != exact


def test_bound_counts_the_larger_end_of_the_range():
    weight = torch.tensor([[3, -4], [0, 1]])
    assert partial_sum_bound(weight, -8, 7) == 56
    assert partial_sum_bound(weight[:0], -8, 7) == 0


def test_int8_product_splits_inputs_exactly():
    generator = torch.Generator().manual_seed(1)
    weight = torch.randint(-2, 3, (16, 32), generator=generator).to(torch.int8)
    x = torch.randint(-2048, 2048, (20, 32), generator=generator)
    assert torch.equal(int8_product(x.float(), weight.t().contiguous(), 4).long(), x @ weight.long().t())
    with pytest.raises(ValueError, match="16 bits"):
        int8_product(x.float(), weight.t().contiguous(), 8)


def test_the_self_test_sees_a_saturating_kernel():
    """Control: a kernel that saturates sums of two products at 16 bits, as AVX2 does, fails; an exact one passes."""
    weight = layer(64, 8, 8).weight

    def saturating(x: Tensor) -> Tensor:
        pairs = (x.unsqueeze(1) + 128) * weight.float()  # unsigned inputs, as the instruction wants them
        sums = (pairs[..., 0::2] + pairs[..., 1::2]).clamp(-(2**15), 2**15 - 1).sum(-1)
        return sums - 128 * weight.float().sum(1)

    assert not products_are_exact(saturating, weight, -128, 127)
    assert products_are_exact(lambda x: x.double() @ weight.double().t(), weight, -128, 127)
    bf16 = lambda x: (x.bfloat16().double() @ weight.double().t()).float()  # noqa: E731
    assert not products_are_exact(bf16, weight, -512, 511)


def test_kernels_agree_bit_for_bit():
    x = torch.randint(-512, 512, (50, 96), generator=torch.Generator().manual_seed(3)).float()
    results = []
    for kernel in ("float32", "auto"):
        made = layer(96, 30, 10)
        if kernel == "float32":
            with exact_kernel("float32"):
                results.append(made(x))
        else:
            results.append(made(x))
    assert torch.equal(*results)


def test_unknown_kernels_are_refused(monkeypatch):
    monkeypatch.setenv(KERNEL_VARIABLE, "int4")
    with pytest.raises(UsageError, match="wanted auto, float32 or int8"):
        kernel_name()


def test_reduced_precision_is_refused(monkeypatch):
    require_exact_arithmetic()
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")
    with pytest.raises(CodecError, match=r"ONEDNN_DEFAULT_FPMATH_MODE=BF16.*Unset it"):
        layer(4, 2, 8)(torch.zeros(1, 4))
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "STRICT")
    require_exact_arithmetic()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with pytest.raises(CodecError, match="set_float32_matmul_precision"):
            require_exact_arithmetic()
    finally:
        torch.set_float32_matmul_precision(before)


def test_inexact_float32_is_refused(monkeypatch):
    made = layer(64, 8, 10)
    monkeypatch.setattr(torch, "mm", lambda a, b: (a.bfloat16() @ b.bfloat16()).float())
    with exact_kernel("float32"), pytest.raises(CodecError, match="self-test of an integer network failed"):
        made(torch.zeros(1, 64))


def test_sums_that_int32_cannot_hold_are_refused():
    made = IntegerLinear(2**13, 1, -(2**14), 2**14 - 1)
    made.weight.fill_(127)
    with pytest.raises(CodecError, match="int32 holds less"):
        made(torch.zeros(1, 2**13))


def test_ranges_without_zero_are_refused():
    with pytest.raises(ValueError, match="range around 0"):
        IntegerLinear(2, 2, 1, 5)


@pytest.mark.slow
def test_without_vnni_the_float32_kernel_takes_over():
    """In a process limited to AVX2, int8 products saturate; the layer must notice and give the right sums."""
    code = (
        "import torch;from codelength.integer import IntegerLinear;"
        "m=IntegerLinear(384,40,-128,127);m.weight.fill_(127);x=torch.full((40,384),127.);"
        "print(m.derived['kernel'], bool((m(x)==384*127*127).all()))"
    )
    env = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert out.split()[1] == "True"
