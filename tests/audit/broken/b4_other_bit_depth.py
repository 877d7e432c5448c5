"""B4: 8-bit data are scored by a model of their upper 5 bits; the twin charges the lower 3."""

import math

import torch

PROBE = "P5"


class FiveBits:
    """Independent pixels over 32 levels of x // 8."""

    shape, levels = (1, 4, 4), 256

    def __init__(self, lower_bits_charged):
        self.constant = 16 * math.log(8) if lower_bits_charged else 0.0
        logits = torch.randn(16, 32, generator=torch.Generator().manual_seed(11), dtype=torch.float64)
        self.log_p = torch.log_softmax(logits, -1)

    def log_prob(self, x):
        return self.log_p[torch.arange(16), x.flatten(1) // 8].sum(1) - self.constant


def broken():
    return FiveBits(lower_bits_charged=False)


def twin():
    return FiveBits(lower_bits_charged=True)
