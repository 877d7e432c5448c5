"""Requantization: from a layer's sums to integers of a few bits, one correctly rounded operation at a time.

    q = clamp(round(acc · m_c) + z_c, low, high)

`acc` is an exact integer and m_c a float32 number (held in the file as 24-bit mantissa and exponent), so acc · m_c is one IEEE-754 product, rounded
to nearest once: in float32 where acc is one, in float64 where acc may exceed 2^24. Rounding to an integer (half to even), adding an integer and
clamping come after it as operations of their own, each with a single correct result. No two operations may be contracted
into a fused multiply-add, which would skip the first rounding: each is its own PyTorch kernel and writes its result to memory.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from codelength.integer.derived import Derived

MANTISSA_BITS = 24


class Requantize(Derived):
    """q = clamp(round(acc · m) + z, low, high) over the last dim.

    Args:
        channels: Size C of the last dim.
        low, high: Bounds of the result.

    Buffers:
        mantissa, exponent: m = mantissa · 2^exponent, int32 (C,).
        zero: z, int32 (C,).
    """

    mantissa: Tensor
    exponent: Tensor
    zero: Tensor

    def __init__(self, channels: int, low: int, high: int) -> None:
        super().__init__()
        if not -(2**23) <= low <= high <= 2**23:
            raise ValueError(f"Requantize: bounds {low}..{high}; wanted them in order and within 2^23")
        self.low, self.high = low, high
        self.register_buffer("mantissa", torch.full((channels,), 2**23, dtype=torch.int32))
        self.register_buffer("exponent", torch.full((channels,), -33, dtype=torch.int32))
        self.register_buffer("zero", torch.zeros(channels, dtype=torch.int32))

    def set(self, multiplier: Tensor, zero: Tensor | int = 0) -> None:
        """Take multipliers, (C,) or a number, rounded to float32, and zero points."""
        wide = torch.as_tensor(multiplier, dtype=torch.float64).float().double().expand(len(self.mantissa))
        if not bool((torch.isfinite(wide) & (wide >= 2.0**-100) & (wide <= 2.0**100)).all()):
            raise ValueError("Requantize: multipliers must lie in [2^-100, 2^100], where no product is subnormal")
        mantissa, exponent = torch.frexp(wide)
        self.mantissa.copy_((mantissa * 2.0**MANTISSA_BITS).to(torch.int32))
        self.exponent.copy_(exponent.to(torch.int32) - MANTISSA_BITS)
        self.zero.copy_(torch.as_tensor(zero).to(torch.int32).expand(len(self.zero)))
        self.reset()

    @property
    def multiplier(self) -> Tensor:
        """m, float64 (C,)."""
        return torch.ldexp(self.mantissa.double(), self.exponent)

    def _derive(self) -> dict[str, Tensor]:
        multiplier = self.multiplier
        zero = self.zero.float() if bool(self.zero.any()) else None
        return {"float": multiplier.float(), "double": multiplier, **({} if zero is None else {"zero": zero})}

    def forward(self, acc: Tensor) -> Tensor:
        """(..., C) float32 or int32 integers -> (..., C) float32 integers in [low, high]."""
        derived = self.derived
        if acc.dtype == torch.int32:
            scaled = acc.double() * derived["double"]
        else:
            scaled = acc * derived["float"]
        scaled = scaled.round_()
        if "zero" in derived:
            scaled += derived["zero"]
        return scaled.clamp_(self.low, self.high).float()


def multiplier_parts(module: nn.Module) -> list[Requantize]:
    """All requantizations of a model."""
    return [part for part in module.modules() if isinstance(part, Requantize)]
