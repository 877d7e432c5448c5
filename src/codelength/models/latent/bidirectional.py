"""A layer of the bidirectional ResNet VAE: what goes up, what the prior says, what goes down.

Up, from the data:          h -> h + 0.1 conv(elu([..])), and on the way the posterior's share of mean, log std and context.
Down, from the top:         the prior of z, the posterior's other share, and features that do not depend on z; then
                            h -> h + 0.1 conv(elu([z, features])).

The posterior adds both shares, so that it knows the data and every latent above. The first layer of a resolution halves
it on the way up and doubles it on the way down.

Reference: arXiv:1606.04934, figure 3 and section 5.2; the 0.1 is the released code's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, elu, interpolate

from codelength.models.latent.base import Gaussian, bounded
from codelength.models.latent.inverse_autoregressive import InverseAutoregressive

RESIDUAL = 0.1
INITIAL_LOG_STD = -0.3  # of the posterior: a little narrower than the prior; there are thousands of latents to pay for


@dataclass(frozen=True)
class Share:
    """One direction's share of a posterior: what both add up to is mean, log std and context."""

    mean: Tensor
    log_std: Tensor
    context: Tensor

    def repeated(self, k: int) -> Share:
        """The same for k draws, (k B, ...)."""
        return Share(*(part.repeat(k, 1, 1, 1) for part in (self.mean, self.log_std, self.context)))


class BidirectionalLayer(nn.Module):
    """One layer of latents, (latents, H, W).

    Args:
        filters: Channels of the features h.
        latents: Channels of z.
        halves: Whether the features above have half the resolution.
        top: Whether no layer is above, so that nothing need go up.
        iaf: Number of steps of inverse autoregressive flow.
    """

    def __init__(self, filters: int, latents: int, *, halves: bool, top: bool, iaf: int) -> None:
        super().__init__()
        self.filters, self.latents, self.halves = filters, latents, halves
        stats, stride = 2 * latents + filters, 2 if halves else 1
        # Latents sit at the lower resolution of the two.
        self.up_in = nn.Conv2d(filters, stats if top else stats + filters, 3, stride=stride, padding=1)
        self.up_out = None if top else nn.Conv2d(filters, filters, 3, padding=1)
        self.down_in = nn.Conv2d(filters, 4 * latents + 2 * filters, 3, padding=1)
        self.down_out = nn.Conv2d(latents + filters, (4 if halves else 1) * filters, 3, padding=1)
        self.flows = nn.ModuleList(InverseAutoregressive(latents, filters, backwards=i % 2 == 1) for i in range(iaf))
        with torch.no_grad():
            for conv in (self.up_in, self.down_in):
                assert conv.bias is not None
                conv.weight[: conv.out_channels - filters] *= 0.3  # what speaks of z; the features behind it stay
                conv.bias.zero_()
                if conv is self.up_in:
                    conv.bias[latents : 2 * latents] = INITIAL_LOG_STD

    def up(self, h: Tensor, dtype: torch.dtype) -> tuple[Tensor, Share]:
        """Features for the layer above, and the data's share of the posterior, in `dtype`."""
        z, f = self.latents, self.filters
        parts = self.up_in(elu(h)).split([z, z, f] if self.up_out is None else [z, z, f, f], dim=1)
        if self.up_out is not None:
            h = (avg_pool2d(h, 2) if self.halves else h) + RESIDUAL * self.up_out(elu(parts[3]))
        return h, Share(parts[0].to(dtype), parts[1].to(dtype), parts[2])

    def prior(self, h: Tensor, dtype: torch.dtype) -> tuple[Gaussian, Share, Tensor]:
        """p(z | above), the share of the posterior that knows what is above, and features without z."""
        z, f = self.latents, self.filters
        parts = self.down_in(elu(h)).split([z, z, z, z, f, f], dim=1)
        prior_mean, prior_log_std, mean, log_std = (part.to(dtype) for part in parts[:4])
        return Gaussian(prior_mean, bounded(prior_log_std)), Share(mean, log_std, parts[4]), parts[5]

    def down(self, h: Tensor, z: Tensor, features: Tensor) -> Tensor:
        """Features for the layer below."""
        out = self.down_out(elu(torch.cat([z.to(features.dtype), features], dim=1)))
        if self.halves:
            return interpolate(h, scale_factor=2.0) + RESIDUAL * torch.nn.functional.pixel_shuffle(out, 2)
        return h + RESIDUAL * out

    @staticmethod
    def base(below: Share, above: Share) -> Gaussian:
        """The posterior before it is bent by flows."""
        return Gaussian(below.mean + above.mean, bounded(below.log_std + above.log_std))

    def posterior(self, below: Share, above: Share, noise: Tensor) -> tuple[Tensor, Tensor]:
        """A draw from q(z | x, above) for standard normal noise, and log q of each latent, (n, latents, H, W)."""
        base = self.base(below, above)
        z = base.draw(noise)
        log_q = Gaussian(torch.zeros_like(noise), base.log_std).log_prob(base.log_std.exp() * noise)
        for flow in self.flows:
            z, log_scale = flow(z, below.context + above.context)
            log_q = log_q - log_scale
        return z, log_q
