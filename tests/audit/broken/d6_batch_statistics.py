"""D6: batch normalization with the batch's own statistics when scoring."""

import torch
from torch import nn

PROBE = "P3"


class Flow(nn.Module):
    """Batch normalization as a flow, then independent logistics."""

    shape, levels = (1, 3, 3), 16

    def __init__(self, own_statistics):
        super().__init__()
        self.own_statistics = own_statistics
        self.register_buffer("mean", torch.full((9,), 8.0))
        self.register_buffer("variance", torch.full((9,), 25.0))

    def density_log_prob(self, y):
        y = y.flatten(1)
        mean, variance = self.mean, self.variance
        if self.own_statistics:
            mean, variance = y.mean(0), y.var(0, unbiased=False) + 1e-2
        z = (y - mean) / variance.sqrt()
        log_p = -z - 2 * nn.functional.softplus(-z) - 0.5 * variance.log()
        return log_p.sum(1)


def broken():
    return Flow(own_statistics=True).eval()


def twin():
    return Flow(own_statistics=False).eval()
