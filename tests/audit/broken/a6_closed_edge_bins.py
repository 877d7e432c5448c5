"""A6: a discretized logistic whose edge bins are not open, so that mass leaks out at both ends."""

import torch

PROBE = "P1"


class Logistic(torch.nn.Module):
    """4 x 4 pixels of 256 levels; the mean of each follows its left neighbour."""

    shape, levels = (1, 4, 4), 256

    def __init__(self, open_edges):
        super().__init__()
        self.open_edges = open_edges
        generator = torch.Generator().manual_seed(5)
        self.base = torch.nn.Parameter(torch.rand(16, generator=generator) * 255)
        self.log_scale = torch.nn.Parameter(torch.rand(16, generator=generator) * 2 + 1)

    def conditionals(self, x):
        flat = x.flatten(1).to(self.base.dtype)
        left = torch.cat([flat.new_full((len(x), 1), 128.0), flat[:, :-1]], 1)
        mean = (0.7 * left + 0.3 * self.base).unsqueeze(-1)
        value = torch.arange(256, dtype=self.base.dtype)
        scale = self.log_scale.exp().unsqueeze(-1)
        upper, lower = torch.sigmoid((value + 0.5 - mean) / scale), torch.sigmoid((value - 0.5 - mean) / scale)
        if self.open_edges:
            upper, lower = torch.where(value == 255, 1.0, upper), torch.where(value == 0, 0.0, lower)
        return upper - lower


def broken():
    return Logistic(open_edges=False).eval()


def twin():
    return Logistic(open_edges=True).eval()
