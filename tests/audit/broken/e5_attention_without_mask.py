"""E5: attention over a sequence without a causal mask."""

import torch
from torch import nn

PROBE = "P2"


class Attention(nn.Module):
    """One head over a shifted sequence."""

    shape, levels = (10,), 8

    def __init__(self, masked):
        super().__init__()
        self.masked = masked
        generator = torch.Generator().manual_seed(24)
        self.embed = nn.Parameter(torch.randn(9, 12, generator=generator))
        self.place = nn.Parameter(torch.randn(10, 12, generator=generator))
        self.out = nn.Parameter(torch.randn(12, 8, generator=generator))

    def conditionals(self, x):
        shifted = torch.cat([torch.full_like(x[:, :1], 8), x[:, :-1]], 1)
        h = self.embed[shifted] + self.place
        scores = h @ h.transpose(1, 2) / 12**0.5
        if self.masked:
            scores = scores.masked_fill(torch.ones(10, 10, dtype=torch.bool).triu(1), -torch.inf)
        return torch.softmax((torch.softmax(scores, -1) @ h) @ self.out, -1)


def broken():
    return Attention(masked=False).eval()


def twin():
    return Attention(masked=True).eval()
