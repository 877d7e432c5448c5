"""D5: dropout stays on, called as a function that does not ask for the mode."""

import torch
from torch import nn
from torch.nn import functional

PROBE = "P4"


class Masked(nn.Module):
    """A two-layer masked network of nine bits."""

    shape, levels = (1, 3, 3), 2

    def __init__(self, always):
        super().__init__()
        self.always = always
        generator = torch.Generator().manual_seed(17)
        self.first = nn.Parameter(torch.randn(9, 9, generator=generator))
        self.second = nn.Parameter(torch.randn(9, 9, generator=generator))

    def conditionals(self, x):
        h = torch.tanh(x.flatten(1).to(self.first.dtype) @ self.first.triu(1))
        h = functional.dropout(h, 0.1, training=self.always or self.training)
        return torch.distributions.Bernoulli(logits=h @ self.second.triu(0))


def broken():
    return Masked(always=True).eval()


def twin():
    return Masked(always=False).eval()
