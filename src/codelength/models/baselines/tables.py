"""Distributions looked up in tables of counts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from codelength.errors import UsageError
from codelength.pixels import ChannelDistribution
from codelength.space import Space


class TableChannel(ChannelDistribution):
    """One channel at every site, its masses a row of a table: P(v) = exp(table[row, (v − shift) mod levels]).

    The shift turns a table of prediction residuals into one of values. Taken modulo the number of levels it permutes
    a row, so that the masses of 0 .. levels − 1 sum to 1 whatever the prediction.

    Args:
        table: Log masses, (rows, levels), float64; each row sums to 1 in probability.
        rows: Row of each site, (B, *S), int64.
        shift: Shift of each site, (B, *S), int64; None for none.
    """

    def __init__(self, table: Tensor, rows: Tensor, shift: Tensor | None = None) -> None:
        self.table, self.rows, self.shift, self.levels = table, rows, shift, table.shape[1]

    def log_prob(self, value: Tensor) -> Tensor:
        column = value.long() if self.shift is None else (value.long() - self.shift).remainder(self.levels)
        return self.table.take(self.rows * self.levels + column)

    def probs(self) -> Tensor:
        return self._log_probs().exp()

    def _log_probs(self) -> Tensor:
        if self.shift is None:
            return self.table[self.rows]
        columns = torch.arange(self.levels, device=self.table.device) - self.shift.unsqueeze(-1)
        return self.table.take(self.rows.unsqueeze(-1) * self.levels + columns.remainder(self.levels))

    def sample(self, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        if temperature == 0:
            return self.mode
        probs = self.probs() if temperature == 1 else torch.softmax(self._log_probs() / temperature, dim=-1)
        device = generator.device if generator is not None else torch.device("cpu")
        uniform = torch.rand(probs.shape[:-1], generator=generator, dtype=torch.float64, device=device)
        # Inversion of the CDF, as CategoricalChannel does.
        return (probs.cumsum(-1) < uniform.to(probs.device).unsqueeze(-1)).sum(-1).clamp(max=self.levels - 1)


def log_masses(counts: Tensor, pseudo_count: float, prior: Tensor | None = None) -> Tensor:
    """Log of the smoothed frequencies of each row, nats, (..., levels), float64.

    P(v) = (n_v + pseudo_count · levels · prior_v) / (n + pseudo_count · levels). With a uniform prior (None) and
    pseudo_count 1/2 this is the estimator of Krichevsky and Trofimov (IEEE Trans. IT 27, 1981), with 1 that of Laplace.

    Args:
        counts: Non-negative integers, (..., levels).
        pseudo_count: Pseudo-count a level, positive.
        prior: Masses that sum to 1 over the last dim, broadcastable to `counts`.

    >>> log_masses(torch.tensor([[3, 0]]), 0.5).exp()
    tensor([[0.8750, 0.1250]], dtype=torch.float64)
    """
    levels = counts.shape[-1]
    counts = counts.double()
    total = counts.sum(-1, keepdim=True) + pseudo_count * levels
    extra = pseudo_count if prior is None else pseudo_count * levels * prior
    return torch.log((counts + extra) / total)


def count_rows(rows: Tensor, columns: Tensor, num_rows: int, levels: int) -> Tensor:
    """How often each (row, column) occurs, (num_rows, levels), int64."""
    return torch.bincount((rows * levels + columns).flatten(), minlength=num_rows * levels).view(num_rows, levels)


def want_fitted(model: Any, num_data: Tensor) -> None:
    """Refuse a model that has seen no data.

    Raises:
        UsageError: `num_data` is 0.
    """
    if int(num_data) == 0:
        raise UsageError(f"{type(model).__name__} is not fitted; call fit(x) with the training data, or load weights")


def want_images(space: Space, system: str) -> None:
    """Refuse spaces of other kinds.

    Raises:
        UsageError: `space` holds no images.
    """
    if space.kind != "image":
        raise UsageError(f"{system} speaks of images but the data are of kind {space.kind!r}; choose another system")


def want_data(x: Tensor) -> None:
    """Refuse to fit to nothing.

    Raises:
        UsageError: x is empty.
    """
    if len(x) == 0:
        raise UsageError("fit: no data; give one datum at least")
