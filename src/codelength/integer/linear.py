"""Linear layers of integers whose sums are exact, proved when the layer is prepared.

For inputs low <= a_c <= high every partial sum of output o, in any order, is at most

    bound_o = Σ_c |w_oc| · max(|low|, |high|).

While it stays within 2^24, float32 products and sums of these integers round nothing, so every order of
addition gives the same integer. Where it does not, inputs are split into blocks that each pass, whose sums are added in int32. Biases
are added after the product, by the requantization that follows every layer.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from codelength.errors import CodecError
from codelength.integer.derived import Derived
from codelength.integer.kernels import EXACT, kernel_name, products_are_exact, require_exact_arithmetic

WEIGHT_LIMIT = 127
COLUMNS = 16


def partial_sum_bound(weight: Tensor, low: int, high: int) -> int:
    """The largest |partial sum| of any output.

    >>> partial_sum_bound(torch.tensor([[1, -2], [3, 0]]), -128, 127)
    384
    """
    return int(weight.long().abs().sum(1).max()) * max(abs(low), abs(high)) if weight.numel() else 0


class IntegerLinear(Derived):
    """acc = W a on integers, exact.

    Args:
        inputs, outputs: Sizes K and N.
        low, high: Range of the inputs.
        blocks: Number of blocks of inputs; as few as needed without it.

    Buffers:
        weight: int8 (N, K), within ±127.

    Raises:
        CodecError: (when first used) the sums are not exact: too few blocks, or arithmetic of reduced precision.
    """

    weight: Tensor

    def __init__(self, inputs: int, outputs: int, low: int, high: int, *, blocks: int | None = None) -> None:
        super().__init__()
        if not low <= 0 <= high:
            raise ValueError(f"IntegerLinear: inputs {low}..{high}; wanted a range around 0")
        self.low, self.high, self.blocks = low, high, blocks
        weight = torch.randint(-8, 9, (outputs, inputs)) if inputs * outputs else torch.zeros(outputs, inputs)
        self.register_buffer("weight", weight.to(torch.int8))

    @property
    def bound(self) -> int:
        """Largest |partial sum|."""
        return partial_sum_bound(self.weight, self.low, self.high)

    @property
    def wide(self) -> bool:
        """Whether sums leave 2^24, so that they come out as int32."""
        return bool(self.derived["wide"])

    def forward(self, inputs: Tensor) -> Tensor:
        """(M, K) float32 integers in [low, high] -> (M, N) exact sums: float32, or int32 where they can leave 2^24."""
        derived = self.derived
        if derived["kernel"] == "int8":
            sums = int8_product(inputs, derived["weight"], derived["shift"])
            sums = sums[:, : len(self.weight)]
            return sums if derived["wide"] else sums.float()
        if not derived["wide"]:
            return torch.mm(inputs, derived["weight"][0])
        parts = zip(inputs.split(derived["sizes"], dim=1), derived["weight"], strict=True)
        total = torch.zeros((len(inputs), len(self.weight)), dtype=torch.int32, device=inputs.device)
        for part, weight in parts:
            total += torch.mm(part, weight).to(torch.int32)
        return total

    def _derive(self) -> dict[str, Any]:
        require_exact_arithmetic(self.weight.device)
        if self.bound >= 2**31:
            raise CodecError(f"IntegerLinear: partial sums reach {self.bound}; int32 holds less than 2^31")
        wide = self.bound > EXACT
        sizes = self._split()  # also where int8 runs: whether a layer is exact must not depend on the machine
        return {**(self._int8(wide) or self._float32(wide, sizes)), "bound": self.bound}

    def _float32(self, wide: bool, sizes: list[int]) -> dict[str, Any]:
        parts = self.weight.split(sizes, dim=1)
        weight = [part.t().float().contiguous() for part in parts]
        for part, right in zip(parts, weight, strict=True):
            if not products_are_exact(partial(_float_product, weight=right), part, self.low, self.high):
                raise CodecError(
                    "the self-test of an integer network failed: float32 products of integers are not exact here (bf16 or "
                    "TF32 arithmetic?), so its codes would not decode elsewhere. Unset reduced-precision math modes"
                )
        return {"kernel": "float32", "wide": wide, "sizes": sizes, "weight": weight}

    def _split(self) -> list[int]:
        """Sizes of the blocks of inputs: as few as the proof allows."""
        inputs = self.weight.shape[1]
        candidates = [self.blocks] if self.blocks else range(1, max(2, inputs + 1))
        for blocks in candidates:
            size = -(-inputs // blocks) if inputs else 1
            sizes = [min(size, inputs - start) for start in range(0, inputs, size)] or [0]
            parts = self.weight.split(sizes, dim=1)
            if all(partial_sum_bound(part, self.low, self.high) <= EXACT for part in parts):
                return sizes
        raise CodecError(
            f"IntegerLinear: partial sums reach {self.bound} in {self.blocks} block(s) of {inputs} inputs within "
            f"{self.low}..{self.high}; float32 is exact to 2^24 only. Use more blocks or fewer bits"
        )

    def _int8(self, wide: bool) -> dict[str, Any] | None:
        """The int8 kernel, if it is wanted and passes the self-test on this layer's shape."""
        wanted = kernel_name()
        if wanted == "float32" or self.weight.device.type != "cpu":
            return None
        shift = max(0, max(self.high, -self.low - 1).bit_length() - 7)
        # Outputs in whole groups of 16: measured, 32 columns take half the time of 30.
        padding = -len(self.weight) % COLUMNS
        right = torch.nn.functional.pad(self.weight, (0, 0, 0, padding)).t().contiguous()
        padded = right.t()
        product = partial(int8_product, weight=right, shift=shift)
        passes = right.numel() > 0 and products_are_exact(product, padded, self.low, self.high)
        if not passes and wanted == "int8":
            raise CodecError("torch._int_mm fails the self-test here; unset CODELENGTH_INTEGER_KERNEL to use float32")
        return {"kernel": "int8", "weight": right, "shift": shift, "wide": wide} if passes else None


def _float_product(inputs: Tensor, weight: Tensor) -> Tensor:
    return torch.mm(inputs, weight)


def int8_product(inputs: Tensor, weight: Tensor, shift: int) -> Tensor:
    """Integer product through int8 kernels, (M, K) float32 x (K, N) int8 -> (M, N) int32.

    Inputs of more than 8 bits are split exactly into a = high · 2^shift + low, both within int8; int32 holds every sum of
    either product, and, because |sum| < 2^31 is proved, that of both.
    """
    if not shift:
        return torch._int_mm(inputs.to(torch.int8), weight)
    unit = float(2**shift)
    upper = inputs.mul(1 / unit).floor_()  # a power of two: the product is exact
    lower = inputs - upper * unit
    if shift > 7:
        raise ValueError(f"int8_product: {shift + 8} bits; wanted at most 15")
    total = torch._int_mm(upper.to(torch.int8), weight)
    total *= 2**shift
    return total.add_(torch._int_mm(lower.to(torch.int8), weight))
