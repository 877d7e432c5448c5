"""E3: coarse features of a whole 2 x 2 block come back to all four of its pixels; the twin shifts them by one block row."""

import torch
from torch import nn
from torch.nn import functional

PROBE = "P2"


class Pyramid(nn.Module):
    """A masked convolution, plus features of a coarser scale."""

    shape, levels = (1, 6, 6), 4

    def __init__(self, shifted):
        super().__init__()
        self.shifted = shifted
        generator = torch.Generator().manual_seed(21)
        self.fine = nn.Parameter(torch.randn(4, 1, 3, 3, generator=generator))
        self.coarse = nn.Parameter(torch.randn(4, 1, 1, 3, generator=generator))
        mask = torch.tensor([[1.0, 1, 1], [1, 0, 0], [0, 0, 0]])
        self.register_buffer("mask", mask)

    def conditionals(self, x):
        scaled = x.to(self.fine.dtype) - 1.5
        fine = functional.conv2d(scaled, self.fine * self.mask, padding=1)
        pooled = functional.avg_pool2d(scaled, 2)
        if self.shifted:
            pooled = functional.pad(pooled, (0, 0, 1, 0))[:, :, :-1]
        coarse = functional.conv2d(pooled, self.coarse, padding=(0, 1))
        logits = fine + functional.interpolate(coarse, scale_factor=2, mode="nearest")
        return torch.softmax(logits, 1).flatten(2).transpose(1, 2)


def broken():
    return Pyramid(shifted=False).eval()


def twin():
    return Pyramid(shifted=True).eval()
