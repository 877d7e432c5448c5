"""B1: a density fitted to integers without noise spikes at them, and its value there is taken for a probability."""

import math

import torch

PROBE = "P5"


class Density:
    """Independent pixels: narrow or broad Gaussians at every level. The twin scores bins, by integration."""

    shape, levels = (1, 3, 3), 8

    def __init__(self, spiky):
        self.spiky = spiky
        logits = torch.randn(9, 8, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
        self.weight = torch.softmax(logits, -1)
        self.scale = 0.003 if spiky else 0.6

    def density_log_prob(self, y):
        centre = torch.arange(8, dtype=y.dtype) + (0.0 if self.spiky else 0.5)
        z = (y.flatten(1).unsqueeze(-1) - centre) / self.scale
        log_p = -0.5 * z**2 - math.log(self.scale) - 0.5 * math.log(2 * math.pi)
        return torch.logsumexp(self.weight.log() + log_p, -1).sum(1)

    def log_prob(self, x):
        if self.spiky:
            return self.density_log_prob(x.double())
        centre = torch.arange(8).double() + 0.5
        edge = torch.arange(9).double()
        edge[0], edge[-1] = -1e9, 1e9
        cdf = torch.special.ndtr((edge.unsqueeze(-1) - centre) / self.scale)
        mass = (self.weight.unsqueeze(1) * cdf.diff(dim=0).unsqueeze(0)).sum(-1)  # (9, 8)
        return mass.log()[torch.arange(9), x.flatten(1)].sum(1)


def broken():
    return Density(spiky=True)


def twin():
    return Density(spiky=False)
