"""E1: the first masked convolution is of type B and sees its own pixel."""

import torch
from torch import nn

PROBE = "P2"


class PixelCNN(nn.Module):
    """Two masked convolutions over grey images of 8 levels."""

    shape, levels = (1, 5, 5), 8

    def __init__(self, first_mask):
        super().__init__()
        self.masks = [self.mask(first_mask), self.mask("B")]
        generator = torch.Generator().manual_seed(19)
        self.first = nn.Parameter(torch.randn(6, 1, 3, 3, generator=generator))
        self.second = nn.Parameter(torch.randn(8, 6, 3, 3, generator=generator))

    @staticmethod
    def mask(kind):
        mask = torch.ones(3, 3)
        mask[1, 1 + (kind == "B") :] = 0
        mask[2] = 0
        return mask

    def conditionals(self, x):
        scaled = x.to(self.first.dtype) / 4 - 1
        h = torch.tanh(nn.functional.conv2d(scaled, self.first * self.masks[0], padding=1))
        logits = nn.functional.conv2d(h, self.second * self.masks[1], padding=1)
        return torch.softmax(logits, 1).flatten(2).transpose(1, 2)


def broken():
    return PixelCNN("B").eval()


def twin():
    return PixelCNN("A").eval()
