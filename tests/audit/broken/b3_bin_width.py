"""B3: data scaled by 1/255 under a density on [0, 1]: the last of 256 bins lies outside, and the bins are not 1/256 wide."""

import math

import torch

PROBE = "P5"


class Kumaraswamy:
    """Independent densities on [0, 1] of y / width, converted by ln 256."""

    shape, levels = (1, 2, 2), 256

    def __init__(self, width):
        self.width = width
        generator = torch.Generator().manual_seed(10)
        self.a, self.b = 1 + torch.rand(2, 4, generator=generator, dtype=torch.float64)

    def density_log_prob(self, y):
        z = y.flatten(1).double() / self.width
        log_p = self.a.log() + self.b.log() + (self.a - 1) * z.log() + (self.b - 1) * torch.log1p(-(z**self.a))
        log_p = log_p.sum(1) - 4 * math.log(256)
        return torch.where(((z > 0) & (z < 1)).all(1), log_p, -math.inf)


def broken():
    return Kumaraswamy(width=255)


def twin():
    return Kumaraswamy(width=256)
