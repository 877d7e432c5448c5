"""B5: the Jacobian of the logit preprocessing lacks the term of the logit itself."""

import math

import torch

PROBE = "P5"
ALPHA = 0.05


class LogitNormal(torch.nn.Module):
    """y / 256 through a logit, then a Gaussian with full covariance."""

    shape, levels = (1, 2, 2), 256

    def __init__(self, complete):
        super().__init__()
        self.complete = complete
        generator = torch.Generator().manual_seed(12)
        self.mean = torch.nn.Parameter(torch.randn(4, generator=generator) * 0.3)
        self.root = torch.nn.Parameter(torch.eye(4) + 0.3 * torch.randn(4, 4, generator=generator).tril(-1))

    def density_log_prob(self, y):
        p = ALPHA + (1 - 2 * ALPHA) * y.flatten(1) / 256
        z = torch.logit(p)
        log_det = 4 * math.log((1 - 2 * ALPHA) / 256)
        if self.complete:
            log_det = log_det - (p.log() + torch.log1p(-p)).sum(1)
        return torch.distributions.MultivariateNormal(self.mean, scale_tril=self.root).log_prob(z) + log_det


def broken():
    return LogitNormal(complete=False).eval()


def twin():
    return LogitNormal(complete=True).eval()
