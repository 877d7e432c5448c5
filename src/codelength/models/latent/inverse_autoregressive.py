"""Inverse autoregressive flow: a posterior that is richer than a Gaussian, and as quick to draw from.

    m, s = AutoregressiveNetwork(z, context),   σ = sigmoid(s),   z' = σ z + (1 − σ) m

where m_i and s_i read z_1 .. z_{i−1} alone (channels inside a site, sites in raster order). So dz'/dz is triangular with
diagonal σ, log|det| = Σ log σ, and all of z' comes in one pass. To go back would take a pass a latent, and nothing asks for
it: log q is needed for its own draws only.

Reference: arXiv:1606.04934, eqs. (10)-(14) and algorithm 1. The network is two masked convolutions, as in the released code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, logsigmoid

from codelength.nn.causal_conv import CausalConv, spread_groups

INITIAL_GATE = 2.0  # σ = 0.88 at the start: close to the identity, as the paper advises


class InverseAutoregressive(nn.Module):
    """One step of the flow over maps of latents.

    Args:
        latents: Channels of z.
        hidden: Channels of the network, and of the context.
        kernel: Odd width of the masked kernels; they reach (kernel − 1) / 2 rows up.
        backwards: Read sites and channels in the opposite order, so that a second step sees what the first could not.
    """

    def __init__(self, latents: int, hidden: int, kernel: int = 3, *, backwards: bool = False) -> None:
        super().__init__()
        self.backwards = backwards
        channels, units = torch.arange(latents, device="cpu"), spread_groups(hidden, latents)
        half = kernel // 2
        size, before = (half + 1, kernel), (half, half)
        self.first = CausalConv(channels, units, size, before, "A")
        self.second = CausalConv(units, torch.cat([channels, channels]), size, before, "B", init_scale=0.1)

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """z' and log σ of each latent, whose sum is log|det dz'/dz|.

        Args:
            z: (n, latents, H, W).
            context: What else the posterior knows, (n, hidden, H, W).
        """
        dims = (1, 2, 3)
        source, hint = (z.flip(dims), context.flip(dims)) if self.backwards else (z, context)
        m, s = self.second(elu(self.first(source) + hint)).to(z.dtype).chunk(2, dim=1)
        if self.backwards:
            m, s = m.flip(dims), s.flip(dims)
        s = s + INITIAL_GATE
        gate = torch.sigmoid(s)
        return gate * z + (1 - gate) * m, logsigmoid(s)
