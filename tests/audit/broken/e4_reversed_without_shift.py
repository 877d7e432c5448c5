"""E4: a model that reads backwards, and does not shift; backwards itself is harmless, as the twin shows."""

import torch

PROBE = "P2"


class Backwards:
    """A recurrent sum from the end to the start."""

    shape, levels = (14,), 6

    def __init__(self, shift):
        self.shift = shift
        generator = torch.Generator().manual_seed(22)
        self.weight = torch.randn(6, generator=generator, dtype=torch.float64)
        self.bias = torch.randn(14, 6, generator=generator, dtype=torch.float64)

    def conditionals(self, x):
        sums = torch.cumsum((x.double() - 2.5).flip(1), 1).flip(1)
        if self.shift:
            sums = torch.cat([sums[:, 1:], torch.zeros_like(sums[:, :1])], 1)
        return torch.softmax(torch.tanh(0.3 * sums).unsqueeze(-1) * self.weight + self.bias, -1)


def broken():
    return Backwards(shift=False)


def twin():
    return Backwards(shift=True)
