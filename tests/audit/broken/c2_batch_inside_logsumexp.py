"""C2: the average over data ends up inside the log-sum-exp over samples."""

import math

import torch
from torch import nn


class LatentModel(nn.Module):
    """z ~ N(0, I), independent bits given z; a linear encoder."""

    shape, levels = (1, 3, 3), 2

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(15)
        self.decode = nn.Linear(2, 9)
        self.mean, self.log_scale = nn.Linear(9, 2), nn.Linear(9, 2)
        for parameter in self.parameters():
            parameter.data = 0.7 * torch.randn(parameter.shape, generator=generator)

    def log_weights(self, x, k, generator):
        flat = x.flatten(1).to(self.decode.weight.dtype)
        mean, log_scale = self.mean(flat), self.log_scale(flat) * 0.3
        noise = torch.randn(k, len(x), 2, generator=generator, dtype=flat.dtype)
        z = mean + log_scale.exp() * noise
        log_p = -nn.functional.softplus((1 - 2 * flat) * self.decode(z)).sum(-1)
        log_prior = (-0.5 * z**2 - 0.5 * math.log(2 * math.pi)).sum(-1)
        log_q = (-0.5 * noise**2 - log_scale - 0.5 * math.log(2 * math.pi)).sum(-1)
        return log_p + log_prior - log_q


PROBE = "P3"


class Broken(LatentModel):
    def bound(self, x, k, generator):
        w = self.log_weights(x, k, generator)
        return (torch.logsumexp(w.mean(1), 0) - math.log(k)).expand(len(x))


class Twin(LatentModel):
    def bound(self, x, k, generator):
        return torch.logsumexp(self.log_weights(x, k, generator), 0) - math.log(k)


def broken():
    return Broken().eval()


def twin():
    return Twin().eval()
