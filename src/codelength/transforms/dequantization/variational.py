"""Variational dequantization: the noise of each bin is drawn from a flow that looks at the datum.

    ε standard logistic,    u = σ(f(ε; x)) in (0, 1)^D,    log q(u | x) = log p(ε) − log|det du/dε|,    y = x + u.

The bound E log p(x + u) − log q(u | x) is short of log P(x) by KL(q(u | x) || p(u | x)) where uniform noise is short by
what a density that is not flat inside a bin costs. f is trained with the density, by the same bound.

Departure from the paper: its ε is normal. σ of logistic noise is uniform, so that q starts near U(0, 1), and at the
ends of a bin q goes to zero no faster than a power of u. Under normal noise it goes to zero so fast that the weights
p(x + u) / q(u | x) have no variance, and the K-sample bound little to gain from K. `noise="normal"` is the paper's.

Reference: Flow++, arXiv:1902.00275, section 3.1, eq. (9).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from codelength import randomness
from codelength.errors import unknown_name
from codelength.randomness import Noise
from codelength.transforms.dequantization.dequantizer import Dequantizer
from codelength.transforms.transform import Transform

NOISE = ("logistic", "normal")


class VariationalDequantization(Dequantizer):
    """q(y | x) on [x, x + 1)^D by a conditional flow.

    Args:
        flow: f, from noise to the logit of u, of one shape (B, ...); takes `features=`.
        features: Features of the data for f: takes x rescaled to [−1/2, 1/2), (B, ...).
        levels: Number of levels of the data, 2 .. 2^20.
        offset: Smallest level.
        noise: Distribution of ε, "logistic" or "normal".

    Raises:
        UsageError: Unknown noise.
    """

    def __init__(
        self, flow: Transform, features: nn.Module, *, levels: int, offset: int = 0, noise: str = "logistic"
    ) -> None:
        super().__init__()
        if noise not in NOISE:
            raise unknown_name("noise of VariationalDequantization", noise, NOISE)
        self.noise = noise
        self.flow, self.features, self.levels, self.offset = flow, features, levels, offset

    def _rescaled(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return (x.to(dtype) - self.offset) / self.levels - 0.5

    def _draw(self, shape: tuple[int, ...], generator: Noise, like: Tensor, dtype: torch.dtype) -> Tensor:
        """ε of a shape (k, B, ...)."""
        if self.noise == "normal":
            return randomness.normal(shape, generator, device=like.device, dtype=dtype)
        uniform = randomness.uniform(shape, generator, device=like.device, dtype=torch.float64)
        return torch.logit(uniform.clamp(min=2.0**-54)).to(dtype)

    def _log_q(self, noise: Tensor, logit: Tensor, log_det_jacobian: Tensor) -> Tensor:
        """log q(u | x) = log p(ε) − log|det df/dε| − Σ log u (1 − u), (n,)."""
        if self.noise == "normal":
            log_noise = -0.5 * (noise**2 + math.log(2 * math.pi))
        else:
            log_noise = logsigmoid(noise) + logsigmoid(-noise)
        per_dim = log_noise - logsigmoid(logit) - logsigmoid(-logit)
        return per_dim.flatten(1).sum(1) - log_det_jacobian

    def sample(
        self, x: Tensor, k: int, generator: Noise, *, dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor]:
        if x.is_floating_point():
            raise ValueError(f"VariationalDequantization: data of dtype {x.dtype}; wanted integers")
        noise = self._draw((k, *x.shape), generator, x, dtype).flatten(0, 1)
        features = self.features(self._rescaled(x, dtype))
        logit, log_det_jacobian = self.flow(noise, features=torch.cat([features] * k))
        low = x.to(dtype)
        y = low + torch.sigmoid(logit).unflatten(0, (k, len(x)))
        # x + u can round up to x + 1, the next level's bin: stop at the largest number below it.
        y = torch.minimum(y, torch.nextafter(low + 1, torch.full_like(low, -torch.inf)))
        return y, self._log_q(noise, logit, log_det_jacobian).unflatten(0, (k, len(x)))

    def log_prob(self, u: Tensor, x: Tensor) -> Tensor:
        """log q(x + u | x), nats, (B,), of offsets u in (0, 1), (B, ...), by inverting the flow."""
        logit = torch.logit(u)
        noise, log_det_jacobian = self.flow.inverse(logit, features=self.features(self._rescaled(x, u.dtype)))
        return self._log_q(noise, logit, -log_det_jacobian)

    @torch.no_grad()
    def initialize(self, x: Tensor, generator: Noise) -> None:
        """Set the data-dependent parameters from a training batch x, (B, ...), unless they are set."""
        dtype = next(self.parameters()).dtype
        rescaled = self._rescaled(x, dtype)
        if hasattr(self.features, "initialize"):
            self.features.initialize(rescaled)  # type: ignore[operator]
        noise = self._draw((1, *x.shape), generator, x, dtype)[0]
        self.flow.initialize(noise, features=self.features(rescaled))
