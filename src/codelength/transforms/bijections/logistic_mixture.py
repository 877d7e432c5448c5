"""The CDF of a mixture of logistics, then a logit and an affine map: the elementwise map of Flow++.

    F(x) = Σ_k π_k σ((x − μ_k) / s_k),        z = logit(F(x)) exp(a) + b,
    log dz/dx = log F'(x) − log F(x) − log(1 − F(x)) + a.

F and 1 − F are each a log-sum-exp of their own, so that no tail cancels. With one component it is affine; with K it has
up to K steep pieces, and a density with K modes becomes one.

Reference: Flow++, arXiv:1902.00275, section 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from codelength.transforms.bijections.elementwise import Elementwise

MIN_LOG_SCALE = -7.0
MAX_LOG_SCALE = 7.0
MAX_ITERATIONS = 200
TOLERANCE = 1e-14


class LogisticMixture(Elementwise):
    """Parameters of a number: a, b, then K logits of π, K means, K log scales.

    a = tanh(raw), and log s is kept within [−7, 7], so that no derivative leaves what float32 holds.

    The inverse has no closed form. The mixture's quantile at logit y lies between the smallest and the largest of the
    components' own, μ_k + s_k y: from that bracket Newton's method goes on in float64, and bisects wherever a step would
    leave the bracket or is not half as long as the one before, until all steps are below 1e-14 (1 + |x|).

    Args:
        components: K.
    """

    def __init__(self, components: int) -> None:
        self.components, self.num_parameters = components, 2 + 3 * components

    def _split(self, parameters: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
        raw, shift, mixture = parameters.split([1, 1, 3 * self.components], dim=1)
        logits, means, log_scales = mixture.chunk(3, dim=1)  # (B, K, ...)
        log_scales = log_scales.clamp(MIN_LOG_SCALE, MAX_LOG_SCALE)
        return torch.tanh(raw[:, 0]), shift[:, 0], (torch.log_softmax(logits, dim=1), means, log_scales)

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift, mixture = self._split(parameters)
        logit, log_slope = logit_cdf(x, *mixture)
        return logit * torch.exp(log_scale) + shift, log_slope + log_scale

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift, mixture = self._split(parameters.double())
        logit = (z.double() - shift) * torch.exp(-log_scale)
        root = inverse_logit_cdf(logit.detach(), *(part.detach() for part in mixture))
        # The derivative of the root, by the implicit function theorem, rides on a step of Newton's that moves nothing.
        value, log_slope = logit_cdf(root, *mixture)
        step = (logit - value) * torch.exp(-log_slope.detach())
        x = root + (step - step.detach())
        log_slope = logit_cdf(x, *mixture)[1] if step.requires_grad else log_slope
        return x.to(z.dtype), -(log_slope + log_scale).to(z.dtype)


def logit_cdf(x: Tensor, log_probs: Tensor, means: Tensor, log_scales: Tensor) -> tuple[Tensor, Tensor]:
    """logit F(x) of a mixture of logistics and the log of its derivative, both of x's shape (B, ...).

    Args:
        x: Numbers.
        log_probs, means, log_scales: log π_k, μ_k, log s_k, (B, K, ...) each.
    """
    t = (x.unsqueeze(1) - means) * torch.exp(-log_scales)
    above = log_probs - softplus(t)  # log π_k σ(−t)
    log_upper = torch.logsumexp(above, dim=1)
    log_lower = torch.logsumexp(above + t, dim=1)
    log_density = torch.logsumexp(2 * above + t - log_probs - log_scales, dim=1)
    return log_lower - log_upper, log_density - log_lower - log_upper


@torch.no_grad()
def inverse_logit_cdf(y: Tensor, log_probs: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
    """The x with logit F(x) = y, of y's shape; arguments as for `logit_cdf`, float64."""
    quantiles = means + torch.exp(log_scales) * y.unsqueeze(1)
    low, high = quantiles.amin(1), quantiles.amax(1)
    x, before = (low + high) / 2, high - low
    done = torch.zeros_like(x, dtype=torch.bool)
    for _ in range(MAX_ITERATIONS):
        value, log_slope = logit_cdf(x, log_probs, means, log_scales)
        low, high = torch.where(value < y, x, low), torch.where(value >= y, x, high)
        newton = x + (y - value) * torch.exp(-log_slope)
        usable = (newton >= low) & (newton <= high) & ((newton - x).abs() < before / 2)
        new = torch.where(usable, newton, (low + high) / 2)
        # A number that has arrived takes no further part: round-off would send it back to the middle of its bracket.
        tolerance = TOLERANCE * (1 + x.abs())
        done = done | ((newton - x).abs() <= tolerance) | (high - low <= tolerance)
        if bool(done.all()):
            break
        x, before = torch.where(done, x, new), torch.where(done, before, (new - x).abs())
    return x
