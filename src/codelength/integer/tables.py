"""Functions as tables: built from float64 once, when a model is quantized, and stored with it.

Libraries disagree about exp and tanh in the last bit, so no table is computed where it is used.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from codelength.integer.derived import Derived

Function = Callable[[Tensor], Tensor]


def lookup(table: Tensor, index: Tensor) -> Tensor:
    """Rows of a table: (T, *R) and indices (...) of any integer-valued type -> (..., *R)."""
    flat = index.to(torch.int32).flatten()
    return select_rows(table, flat).view(*index.shape, *table.shape[1:])


def select_rows(table: Tensor, index: Tensor) -> Tensor:
    """`index_select` of rows, (T, R) and (M,) -> (M, R); rows of 8 or 16 bytes as one number: three to four times as fast."""
    size = table[0].numel() * table.element_size()
    if table.dim() == 2 and table.dtype == torch.float32 and size in (8, 16):
        whole = table.view(torch.float64 if size == 8 else torch.complex128).flatten()
        return torch.index_select(whole, 0, index).view(torch.float32).view(len(index), -1)
    return torch.index_select(table, 0, index)


class Lookup(Derived):
    """A table over the integers start .. start + size − 1; each entry is a row of `columns` integers.

    Args:
        start: First index.
        size: Number of indices.
        columns: Integers an entry; 0 for a single number, without a dim of its own.

    Buffers:
        values: int32 (size,) or (size, columns), within 2^24.
    """

    values: Tensor

    def __init__(self, start: int, size: int, columns: int = 0) -> None:
        super().__init__()
        self.start, self.size = start, size
        shape = (size, columns) if columns else (size,)
        self.register_buffer("values", torch.zeros(shape, dtype=torch.int32))

    def set(self, values: Tensor) -> None:
        """Take entries, rounded to integers."""
        rounded = values.double().round()
        if not bool((rounded.abs() <= 2**24).all()):
            raise ValueError("Lookup: entries beyond 2^24 are no exact float32")
        self.values.copy_(rounded.to(torch.int32))
        self.reset()

    def set_function(self, function: Function, step: float, scale: float, low: int, high: int) -> None:
        """Entry i = clamp(round(function(i · step) / scale), low, high), in float64."""
        grid = (torch.arange(self.size, dtype=torch.float64) + self.start) * step
        self.set((function(grid) / scale).round().clamp(low, high))

    def _derive(self) -> dict[str, Tensor]:
        return {"values": self.values.float()}

    @property
    def entries(self) -> Tensor:
        """The entries from the first on, float32."""
        values: Tensor = self.derived["values"]
        return values

    def forward(self, index: Tensor) -> Tensor:
        """(...) integers in start .. start + size − 1 -> (...) or (..., columns) float32 integers."""
        return lookup(self.entries, index - self.start if self.start else index)
