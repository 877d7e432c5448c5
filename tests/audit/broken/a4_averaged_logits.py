"""A4: the logits of two orderings are averaged dim by dim; right is the average of the two joint probabilities."""

import math

import torch
from torch.nn.functional import logsigmoid

PROBE = "P1"


class Orderings:
    """Two linear autoregressive models of ten bits, one in each direction."""

    shape, levels = (10,), 2

    def __init__(self, averaged):
        self.averaged = averaged
        generator = torch.Generator().manual_seed(3)
        weights = 2 * torch.randn(2, 10, 10, generator=generator, dtype=torch.float64)
        self.weights = torch.stack([weights[0].tril(-1), weights[1].triu(1)])

    def log_prob(self, x):
        logits = torch.einsum("oij,nj->oni", self.weights, x.double())
        sign = 2 * x.double() - 1
        if self.averaged:
            return logsigmoid(sign * logits.mean(0)).sum(1)
        return torch.logsumexp(logsigmoid(sign * logits).sum(2), 0) - math.log(2)


def broken():
    return Orderings(averaged=True)


def twin():
    return Orderings(averaged=False)
