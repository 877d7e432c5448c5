"""E5: layer normalization over all positions of a causal network; the twin normalizes over channels alone."""

import torch
from torch import nn
from torch.nn import functional

PROBE = "P2"


class Normed(nn.Module):
    """A masked convolution, a normalization, a 1 x 1 convolution."""

    shape, levels = (1, 4, 4), 6

    def __init__(self, over_space):
        super().__init__()
        self.over_space = over_space
        generator = torch.Generator().manual_seed(23)
        self.first = nn.Parameter(torch.randn(8, 1, 3, 3, generator=generator))
        self.second = nn.Parameter(torch.randn(6, 8, 1, 1, generator=generator))
        self.register_buffer("mask", torch.tensor([[1.0, 1, 1], [1, 0, 0], [0, 0, 0]]))

    def conditionals(self, x):
        h = functional.conv2d(x.to(self.first.dtype) / 3 - 1, self.first * self.mask, padding=1)
        if self.over_space:
            h = functional.layer_norm(h, h.shape[1:])
        else:
            h = functional.layer_norm(h.movedim(1, -1), h.shape[1:2]).movedim(-1, 1)
        logits = functional.conv2d(torch.relu(h), self.second)
        return torch.softmax(logits, 1).flatten(2).transpose(1, 2)


def broken():
    return Normed(over_space=True).eval()


def twin():
    return Normed(over_space=False).eval()
