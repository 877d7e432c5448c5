"""A2: the context's hash includes the target."""

import torch

PROBE = "P2"


class Hashed:
    """Conditionals out of a hash table keyed by the two symbols before, and by the target too where it leaks."""

    levels, shape = 4, (12,)

    def __init__(self, leak):
        self.leak = leak
        generator = torch.Generator().manual_seed(1)
        self.rows = torch.softmax(2 * torch.randn(97, 4, generator=generator, dtype=torch.float64), -1)

    def conditionals(self, x):
        padded = torch.cat([torch.full_like(x[:, :2], 4), x], 1)
        key = padded[:, 1:-1] * 5 + padded[:, :-2]
        if self.leak:
            key = key + x * 13
        return self.rows[key % 97]


def broken():
    return Hashed(leak=True)


def twin():
    return Hashed(leak=False)
