"""A convolution with a learned scale of each output, set from data: convolution and ActNorm in one pass.

actnorm(conv(x)) = (W x + b) e^s is the convolution with weights W e^s and bias b e^s: folded so, the normalization
costs no pass over the features, which on a CPU would take as long as a 1x1 convolution.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ScaledConv(nn.Module):
    """(W * x + b) exp(rate · s), (B, channels, H, W) to (B, outputs, H, W), with "same" padding.

    `initialize(x)` sets b and s once, so that on that batch every output has mean 0 and standard deviation `gain`.

    Args:
        channels: Channels of the input.
        outputs: Channels of the output.
        kernel: Side of the kernel, odd.
        gain: Standard deviation of the outputs after `initialize`; 0 starts with W = b = s = 0 and stays so.
        rate: How fast s acts; 3 in the last layers of Glow, which start at zero.

    Reference: Glow, arXiv:1807.03039, section 3.1 and released code; Salimans & Kingma, arXiv:1602.07868, section 3.
    """

    initialized: Tensor

    def __init__(self, channels: int, outputs: int, kernel: int, *, gain: float = 1.0, rate: float = 1.0) -> None:
        super().__init__()
        self.kernel, self.gain, self.rate = kernel, gain, rate
        self.weight = nn.Parameter(torch.zeros(outputs, channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.log_scale = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("initialized", torch.tensor(gain == 0))
        if gain:
            nn.init.normal_(self.weight, std=gain / math.sqrt(channels * kernel**2))

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.exp(self.rate * self.log_scale)
        return F.conv2d(x, self.weight * scale[:, None, None, None], self.bias * scale, padding=self.kernel // 2)

    @torch.no_grad()
    def initialize(self, x: Tensor) -> Tensor:
        """Set b and s from a batch x, (B, channels, H, W), unless they are set; returns the output."""
        if not bool(self.initialized):
            raw = F.conv2d(x, self.weight, padding=self.kernel // 2)
            deviation, mean = torch.std_mean(raw, dim=(0, 2, 3), correction=0)
            self.bias.copy_(-mean)
            self.log_scale.copy_(torch.log(self.gain / deviation.clamp(min=1e-3)) / self.rate)
            self.initialized.fill_(True)
        out: Tensor = self(x)
        return out
