"""The step that samples were quantized with: the power of two that the last of them are all multiples of.

    g_t = 2^min{ν(x_i) : x_i the last N samples before t that are not 0},    ν(x) = number of trailing zero bits of x,

1 while there are fewer than N of them. Sound that was recorded with 8 bits and is stored with 16 has g = 256; FLAC calls the bits below it wasted. Zeros
are multiples of everything and say nothing, so silence does not forget the step. g_t depends on earlier samples alone, and a decoder has it too.
"""

from __future__ import annotations

import torch
from torch import Tensor


def trailing_zeros(x: Tensor) -> Tensor:
    """Number of trailing zero bits of integers other than 0, int64; of 0 it is 63.

    >>> trailing_zeros(torch.tensor([1, -12, 256, 0])).tolist()
    [0, 2, 8, 63]
    """
    lowest = (x & -x).double()
    return torch.where(x == 0, torch.full_like(x, 63), lowest.clamp(min=1).log2().long())


def most_bits(levels: int) -> int:
    """Bits of the widest step that leaves two multiples or more within the levels on each side of their middle.

    >>> most_bits(65_536)
    14
    """
    return max(0, ((levels - 1) // 2).bit_length() - 1)


def common_bits(x: Tensor, count: int, limit: int) -> Tensor:
    """log2 of the step g_t before each sample: (B, T) int64 to (B, T), 0 .. `limit`.

    >>> common_bits(torch.tensor([[4, 0, 12, 8, 3, 2]]), 2, 5).tolist()
    [[0, 0, 0, 2, 2, 0]]
    """
    bits = trailing_zeros(x)
    found = torch.zeros_like(x)
    for row, (values, zeros) in enumerate(zip(bits, x == 0, strict=True)):
        own = values[~zeros]
        if len(own) < count:
            continue
        least = own.unfold(0, count, 1).min(1).values.clamp(max=limit)
        seen = (~zeros).cumsum(0).roll(1)  # samples other than 0 before each
        seen[0] = 0
        found[row] = torch.where(seen >= count, least[(seen - count).clamp(min=0)], 0)
    return found
