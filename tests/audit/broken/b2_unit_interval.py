"""B2: a density over [0, 1]^D whose conversion to bins of width 1 (−D ln 256) is missing."""

import math

import torch

PROBE = "P5"


class Beta:
    """Independent Beta densities of y / 256."""

    shape, levels = (1, 4, 4), 256

    def __init__(self, converted):
        self.converted = converted
        generator = torch.Generator().manual_seed(9)
        self.a, self.b = 1 + 3 * torch.rand(2, 16, generator=generator, dtype=torch.float64)

    def density_log_prob(self, y):
        z = (y.flatten(1).double() / 256).clamp(1e-12, 1 - 1e-12)
        inside = ((y >= 0) & (y < 256)).flatten(1).all(1)
        log_p = torch.distributions.Beta(self.a, self.b, validate_args=False).log_prob(z).sum(1)
        if self.converted:
            log_p = log_p - 16 * math.log(256)
        return torch.where(inside, log_p, -math.inf)


def broken():
    return Beta(converted=False)


def twin():
    return Beta(converted=True)
