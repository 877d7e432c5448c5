"""Networks of the one-layer VAE: dense, and convolutional with residual blocks."""

from __future__ import annotations

import itertools

from torch import Tensor, nn
from torch.nn.functional import silu


class ResidualBlock(nn.Module):
    """h + conv1x1(silu(conv3x3(silu(h)))), (B, filters, H, W)."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(filters, filters, 3, padding=1), nn.Conv2d(filters, filters, 1)

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = h + self.second(silu(self.first(silu(h))))
        return out


def _blocks(filters: int, blocks: int) -> list[nn.Module]:
    return [ResidualBlock(filters) for _ in range(blocks)]


def conv_encoder(channels: int, outputs: int, filters: int, blocks: int, downsamplings: int) -> nn.Sequential:
    """(B, channels, H, W) to (B, outputs, H / 2^d, W / 2^d)."""
    layers: list[nn.Module] = []
    for level in range(downsamplings):
        layers += [nn.Conv2d(filters if level else channels, filters, 4, stride=2, padding=1)]
        layers += _blocks(filters, blocks)
    return nn.Sequential(*layers, nn.Conv2d(filters, outputs, 1))


def conv_decoder(channels: int, outputs: int, filters: int, blocks: int, downsamplings: int) -> nn.Sequential:
    """(B, channels, H / 2^d, W / 2^d) to (B, outputs, H, W); no layer works at full resolution, for speed.

    Encoder and decoder are linear but for their residual blocks: the fine detail of an image, which a few nonlinear
    layers would have to learn to pass on, reaches the latents and comes back unharmed from the start.
    """
    layers: list[nn.Module] = [nn.Conv2d(channels, filters, 3, padding=1)]
    for level in range(downsamplings):
        layers += _blocks(filters, blocks)
        last = level == downsamplings - 1
        layers += [
            nn.SiLU(),
            nn.Conv2d(filters, 4 * (outputs if last else filters), 3 if last else 1, padding=int(last)),
        ]
        layers += [nn.PixelShuffle(2)]
    return nn.Sequential(*layers)


def dense(inputs: int, outputs: int, hidden: int, layers: int) -> nn.Sequential:
    """(B, ...) with `inputs` numbers to (B, outputs) by `layers` hidden layers."""
    sizes = [inputs, *[hidden] * layers]
    hidden_layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.SiLU())]
    return nn.Sequential(nn.Flatten(), *hidden_layers, nn.Linear(sizes[-1], outputs))
