"""B6: log_prob is a mean over dims instead of a sum; there are no conditionals to compare it with."""

import torch

PROBE = "P5"


class Independent:
    """Independent pixels of 8 x 8, too many to enumerate."""

    shape, levels = (1, 8, 8), 256

    def __init__(self, mean):
        self.mean = mean
        logits = torch.randn(64, 256, generator=torch.Generator().manual_seed(14), dtype=torch.float64)
        self.log_p = torch.log_softmax(logits, -1)

    def log_prob(self, x):
        per_dim = self.log_p[torch.arange(64), x.flatten(1)]
        return per_dim.mean(1) if self.mean else per_dim.sum(1)


def broken():
    return Independent(mean=True)


def twin():
    return Independent(mean=False)
