"""A linear-Gaussian VAE: log p(x) is known, so that bounds can be compared with what they bound.

z ~ N(0, I), x | z ~ N(W z + b, σ² I), hence p(x) = N(b, W Wᵀ + σ² I) and the posterior is N(m(x), S) with
S = (I + Wᵀ W / σ²)⁻¹ and m(x) = S Wᵀ (x − b) / σ² (probabilistic PCA, Tipping & Bishop 1999). The columns of W start
orthogonal, so that S is diagonal and independent latents can be exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from codelength import randomness
from codelength.models.base import LikelihoodModel, LogWeights
from codelength.randomness import Noise, make_generator
from codelength.space import Space


class LinearGaussianVAE(LikelihoodModel):
    """A density over real vectors, bounded by `log_weights`; `exact_log_prob` is what it bounds.

    The encoder is N(m(x) + e s, diag((1 + e) s)²), with s the square roots of the diagonal of S and e the encoder's
    error. It is too wide for e > 0, so that the weights have a finite variance.

    Args:
        dims: D, numbers of x.
        latent_dims: Numbers of z, at most D.
        seed: Seed of W and b.
        encoder_error: e >= 0; at 0 the encoder is the posterior and every weight is p(x).
        noise: σ.

    The space's two levels mean nothing: the data are real, their density has no bits/dim.

    >>> model = LinearGaussianVAE(3, 2, seed=0, encoder_error=0.0)
    >>> x = model.sample(4, torch.Generator().manual_seed(0))
    >>> gap = model.exact_log_prob(x) - model.log_weights(x, 1, torch.Generator()).total
    >>> bool(gap.abs().max() < 1e-4)
    True
    """

    def __init__(
        self, dims: int, latent_dims: int, seed: int = 0, *, encoder_error: float = 0.5, noise: float = 0.5
    ) -> None:
        super().__init__(Space("vector", (dims,), 2), "density")
        if encoder_error < 0 or noise <= 0 or not 1 <= latent_dims <= dims:
            raise ValueError(
                f"LinearGaussianVAE: dims={dims}, latent_dims={latent_dims}, encoder_error={encoder_error}, noise={noise}; "
                "wanted 1 to dims latents, an error of 0 or more and positive noise"
            )
        generator = make_generator(seed, "linear-gaussian")
        default = torch.get_default_dtype()
        weight, _ = torch.linalg.qr(torch.randn(dims, latent_dims, generator=generator, dtype=torch.float64))
        weight = weight * torch.linspace(0.5, 1.5, latent_dims, dtype=torch.float64)
        bias = torch.randn(dims, generator=generator, dtype=torch.float64)
        posterior = torch.linalg.inv(torch.eye(latent_dims, dtype=torch.float64) + weight.T @ weight / noise**2)
        std = posterior.diagonal().sqrt()
        self.layers = {"z": (latent_dims,)}
        self.weight, self.bias = nn.Parameter(weight.to(default)), nn.Parameter(bias.to(default))
        self.log_noise = nn.Parameter(torch.tensor(math.log(noise), dtype=default))
        self.encoder = nn.Parameter((posterior @ weight.T / noise**2).to(default))
        self.encoder_shift = nn.Parameter((encoder_error * std).to(default))
        self.encoder_log_std = nn.Parameter(((1 + encoder_error) * std).log().to(default))

    def exact_log_prob(self, x: Tensor) -> Tensor:
        """log p(x), nats, (B,), of reals x, (B, D); named so that the model's number stays a bound."""
        identity = torch.eye(len(self.bias), dtype=self.dtype, device=x.device)
        covariance = self.weight @ self.weight.T + torch.exp(2 * self.log_noise) * identity
        return torch.distributions.MultivariateNormal(self.bias, covariance, validate_args=False).log_prob(x)

    def log_weights(self, x: Tensor, k: int, generator: Noise) -> LogWeights:
        """log p(x | z) + log p(z) − log q(z | x) of k latents of each datum x, (B, D).

        Returns:
            Terms "log_likelihood", "log_prior" and "minus_log_q", (k, B), nats.
        """
        mean = (x - self.bias) @ self.encoder.T + self.encoder_shift
        noise = randomness.normal((k, *mean.shape), generator, device=mean.device, dtype=mean.dtype)
        z = mean + self.encoder_log_std.exp() * noise  # (k, B, latent_dims)
        residual = (x - self.bias - z @ self.weight.T) * torch.exp(-self.log_noise)
        constant = 0.5 * math.log(2 * math.pi)
        return LogWeights(
            {
                "log_likelihood": -(0.5 * residual**2 + self.log_noise + constant).sum(2),
                "log_prior": -(0.5 * z**2 + constant).sum(2),
                "minus_log_q": (0.5 * noise**2 + self.encoder_log_std + constant).sum(2),
            }
        )

    def log_likelihood(self, x: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
        """log p(x | z) of reals x, (n, D), nats, (n,); the prior is N(0, I), so that z is its own noise."""
        residual = (x - self.bias - noise["z"] @ self.weight.T) * torch.exp(-self.log_noise)
        return -(0.5 * residual**2 + self.log_noise + 0.5 * math.log(2 * math.pi)).sum(1)

    @torch.no_grad()
    def simulate(self, n: int, generator: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """n reals, (n, D), with their latents: exact draws from the posterior of each."""
        z = randomness.normal((n, self.weight.shape[1]), generator, device=self.device, dtype=self.dtype)
        noise = randomness.normal((n, len(self.bias)), generator, device=self.device, dtype=self.dtype)
        return z @ self.weight.T + self.bias + self.log_noise.exp() * noise, {"z": z}

    def sample(self, n: int, generator: Noise) -> Tensor:
        """Draw n reals, (n, D)."""
        return self.simulate(n, generator)[0]
