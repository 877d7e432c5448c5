"""B6: log_prob is in bits."""

import math

import torch

PROBE = "P5"


class Markov:
    """A chain along the flat order."""

    shape, levels = (3, 2, 2), 6

    def __init__(self, unit):
        self.unit = unit
        logits = torch.randn(7, 6, generator=torch.Generator().manual_seed(13), dtype=torch.float64)
        self.table = torch.softmax(logits, -1)

    def conditionals(self, x):
        flat = x.flatten(1)
        return self.table[torch.cat([torch.full_like(flat[:, :1], 6), flat[:, :-1]], 1)]

    def log_prob(self, x):
        return self.conditionals(x).gather(-1, x.flatten(1).unsqueeze(-1)).squeeze(-1).log().sum(1) / self.unit


def broken():
    return Markov(unit=math.log(2))


def twin():
    return Markov(unit=1.0)
