"""Linear prediction that adapts to the past: taps fitted, block after block, to the samples before the block.

    a = argmin Σ_n w_n (x_n − Σ_k a_k x_{n−k})² + λ |a|²,    n over the last `memory` samples,    w_n rising linearly to 1,

by the normal equations, in float64. λ is a small share of the signal's power and at least one level squared a sample, so that silence has taps of 0.
Since taps depend on earlier samples alone, a decoder has them too.

Reference: the covariance method of linear prediction (Makhoul, "Linear prediction: a tutorial review", 1975), backward-adaptive as in ITU-T G.728.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

RIDGE = 1e-5


@torch.no_grad()
def fit_taps(samples: Tensor, taps: int) -> Tensor:
    """Taps of each segment, oldest first.

    Args:
        samples: (..., memory + taps) float64, oldest first.
        taps: K; prediction from samples (..., K), oldest first, is their product with the taps.

    Returns:
        (..., K) float64.

    >>> x = 0.9 ** torch.arange(12, dtype=torch.float64) * 1e4
    >>> fit_taps(x, 1).round(decimals=2).tolist()
    [0.9]
    """
    rows = samples.unfold(-1, taps + 1, 1)  # (..., memory, K + 1)
    memory = rows.shape[-2]
    weights = torch.arange(1, memory + 1, dtype=samples.dtype, device=samples.device) / memory
    gram = (rows * weights.unsqueeze(1)).mT @ rows  # (..., K + 1, K + 1)
    left, right = gram[..., :taps, :taps], gram[..., :taps, taps:]
    ridge = RIDGE * left.diagonal(dim1=-2, dim2=-1).mean(-1) + weights.sum()
    left = left + ridge[..., None, None] * torch.eye(taps, dtype=samples.dtype, device=samples.device)
    return torch.cholesky_solve(right, torch.linalg.cholesky(left)).squeeze(-1)


@torch.no_grad()
def predict(x: Tensor, taps: int, memory: int, block: int) -> Tensor:
    """Prediction of every sample from those before it: (B, T) float64 to (B, T); samples before the first are 0."""
    length = x.shape[1]
    padded = F.pad(x, (memory + taps, 0))
    segments = padded[:, :-1].unfold(
        1, memory + taps, block
    )  # (B, blocks, memory + K): all that lies before each block
    found = fit_taps(segments, taps).repeat_interleave(block, dim=1)[:, :length]  # (B, T, K)
    past = padded[:, memory:-1].unfold(1, taps, 1)  # (B, T, K)
    return (past * found).sum(2)
