"""A5: binary cross entropy of grey values in [0, 1]; the twin gives every grey level its binomial probability."""

import torch
from torch.nn.functional import logsigmoid

PROBE = "P1"


class Grey:
    """Independent pixels with one logit each."""

    shape, levels = (1, 4, 4), 16

    def __init__(self, cross_entropy):
        self.cross_entropy = cross_entropy
        self.logits = torch.randn(16, generator=torch.Generator().manual_seed(4), dtype=torch.float64)

    def log_prob(self, x):
        value = x.flatten(1).double()
        if self.cross_entropy:
            grey = value / 15
            return (grey * logsigmoid(self.logits) + (1 - grey) * logsigmoid(-self.logits)).sum(1)
        return torch.distributions.Binomial(15, logits=self.logits).log_prob(value).sum(1)


def broken():
    return Grey(cross_entropy=True)


def twin():
    return Grey(cross_entropy=False)
