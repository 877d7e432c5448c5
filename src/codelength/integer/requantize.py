"""Requantization: from a layer's sums to integers of a few bits, one correctly rounded operation at a time.

    q = clamp(floor(acc · m_c + β_c), low, high)

`acc` is an exact integer; m_c and β_c are float32 numbers, held in the file as integers (24-bit mantissa and exponent). β holds the bias of the layer, the
zero point of the result and the ½ that makes floor a rounding. The product is one IEEE-754 operation, rounded to nearest, and so is the sum: in
float32 where acc is one, in float64 where acc may exceed 2^24. floor and clamp are exact. What is not allowed is to contract product and
sum into a fused multiply-add, which would skip the first rounding: each is a PyTorch kernel of its own and writes its result
to memory. No operand is subnormal, so that modes that flush them to zero change nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from codelength.integer.derived import Derived

MANTISSA_BITS = 24
SMALLEST, LARGEST = 2.0**-60, 2.0**60
"""Range of multipliers and of offsets other than 0: far from subnormal numbers and from infinity."""


class Requantize(Derived):
    """q = clamp(floor(acc · m + β), low, high) over the last dim.

    Args:
        channels: Size C of the last dim.
        low, high: Bounds of the result.

    Buffers:
        multiplier: Mantissa and exponent of m, int32 (2, C).
        offset: The same of β.
    """

    multiplier: Tensor
    offset: Tensor

    def __init__(self, channels: int, low: int, high: int) -> None:
        super().__init__()
        if not -(2**23) <= low <= high <= 2**23:
            raise ValueError(f"Requantize: bounds {low}..{high}; wanted them in order and within 2^23")
        self.low, self.high = low, high
        self.register_buffer("multiplier", torch.zeros(2, channels, dtype=torch.int32))
        self.register_buffer("offset", torch.zeros(2, channels, dtype=torch.int32))
        self.set(2.0**-10, 0.0)

    def set(self, multiplier: Tensor | float, offset: Tensor | float = 0.0) -> None:
        """Take m and the real value of q where acc is 0, (C,) or a number each: q = round(acc · m + offset)."""
        channels = self.multiplier.shape[1]
        self.multiplier.copy_(_parts(torch.as_tensor(multiplier, dtype=torch.float64).expand(channels)))
        self.offset.copy_(_parts(torch.as_tensor(offset, dtype=torch.float64).expand(channels) + 0.5))
        self.reset()

    def _derive(self) -> dict[str, Tensor]:
        multiplier, offset = (torch.ldexp(part[0].double(), part[1]) for part in (self.multiplier, self.offset))
        # Indices count from 0, whatever the lowest value is: a difference of integers and halves, rounded once.
        wide = {"m64": multiplier, "b64": offset, "i64": offset - self.low}
        return {**wide, **{name.replace("64", "32"): value.float() for name, value in wide.items()}}

    def _scaled(self, acc: Tensor, offset: str) -> Tensor:
        derived = self.derived
        if acc.dtype != torch.float32:
            return (acc.double() * derived["m64"]).add_(derived[f"{offset}64"])
        return (acc * derived["m32"]).add_(derived[f"{offset}32"])

    def forward(self, acc: Tensor) -> Tensor:
        """(..., C) sums: float32, or wider as int32 or float64 -> (..., C) float32 integers in [low, high]."""
        return self._scaled(acc, "b").floor_().clamp_(self.low, self.high).float()

    def index(self, acc: Tensor) -> Tensor:
        """The same minus `low`, as int32 indices of a table."""
        # Nothing is negative after the clamp, so that cutting off the fraction is floor.
        return self._scaled(acc, "i").clamp_(0, self.high - self.low).to(torch.int32)


def _parts(values: Tensor) -> Tensor:
    """Mantissa and exponent of float64 values rounded to float32: value = mantissa · 2^exponent, int32 (2, C)."""
    rounded = values.float().double()
    size = rounded.abs()
    if not bool(((size == 0) | ((size >= SMALLEST) & (size <= LARGEST))).all()):
        raise ValueError("Requantize: multipliers and offsets must be 0 or of a size in 2^-60 .. 2^60")
    mantissa, exponent = torch.frexp(rounded)
    return torch.stack([mantissa * 2.0**MANTISSA_BITS, exponent.double() - MANTISSA_BITS]).to(torch.int32)
