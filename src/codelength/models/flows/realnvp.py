"""RealNVP: images as a bijection of Gaussian noise, built of coupling layers at several scales.

Idea. y ↦ z = f(y) with f invertible and z standard normal, so that log p(y) = log N(z; 0, I) + log|det df/dy|, exactly.
f rescales and takes a logit, then at each scale: couplings with checkerboard masks, a squeeze (2 x 2 sites become
channels), couplings with channel masks; half of the channels leave as latents, the rest go on to the next scale.

    y in [0, levels)^D -> logit -> [checkerboard x 3 -> squeeze -> channel x 3 -> half out] x (scales − 1)
                                 -> checkerboard x 4 -> z

Departures from the paper. Batch normalization is replaced by ActNorm: with batch statistics a datum's likelihood
depends on its batch (at test time as well), and what the model then scores is no density of one datum; running
averages are a density, but another one than was trained. The networks have weight normalization alone, and their
last layer starts at zero, so that every coupling starts as the identity. A scale bounds each channel, not each layer.

Paper: Dinh et al., "Density estimation using Real NVP", arXiv:1605.08803.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, relu
from torch.nn.utils.parametrizations import weight_norm

from codelength.models.flows.base import Flow, preprocess
from codelength.space import Space
from codelength.transforms import (
    ActNorm,
    AffineCoupling,
    Compose,
    MultiScale,
    Squeeze,
    Transform,
    channel_mask,
    checkerboard_mask,
)
from codelength.transforms.dequantization import uniformly_dequantized


def _convolution(channels: int, outputs: int, kernel: int) -> nn.Module:
    return weight_norm(nn.Conv2d(channels, outputs, kernel, padding=kernel // 2))


class ResidualBlock(nn.Module):
    """h + conv(relu(conv(relu(h)))), (B, filters, H, W)."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.first, self.second = _convolution(filters, filters, 3), _convolution(filters, filters, 3)

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = h + self.second(relu(self.first(relu(h))))
        return out


class CouplingNetwork(nn.Module):
    """Residual network that gives a coupling its raw scale and shift; a 1x1 skip leads from every block to the end.

    Args:
        mask: Mask of the coupling, (C, H, W); its first channel is an input, so that a convolution can tell a masked
            site from one of value 0.
        filters: Channels of the hidden layers.
        blocks: Residual blocks.
        fold: Work on fold x fold blocks of sites as channels: 1 as in the paper, 2 costs a quarter.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, filters: int, blocks: int, fold: int = 1) -> None:
        super().__init__()
        channels, height, width = mask.shape
        self.fold = fold if height % fold == 0 and width % fold == 0 else 1
        self.register_buffer("mask", mask[:1].clone(), persistent=False)
        self.enter = _convolution((channels + 1) * self.fold**2, filters, 3)
        self.blocks = nn.ModuleList(ResidualBlock(filters) for _ in range(blocks))
        self.skips = nn.ModuleList(_convolution(filters, filters, 1) for _ in range(blocks + 1))
        self.leave = nn.Conv2d(filters, 2 * channels * self.fold**2, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Masked x, (B, C, H, W), to raw scale and shift, (B, 2C, H, W)."""
        x = torch.cat([x, self.mask.expand(x.shape[0], -1, -1, -1)], dim=1)
        h = self.enter(pixel_unshuffle(x, self.fold))  # (B, filters, H / fold, W / fold)
        out = self.skips[0](h)
        for block, skip in zip(self.blocks, self.skips[1:]):
            h = block(h)
            out = out + skip(h)
        return pixel_shuffle(self.leave(relu(out)), self.fold)


class RealNVP(Flow):
    """A density over images, exact to evaluate and to sample.

    Args:
        space: Images with fixed sizes divisible by 2^(scales − 1).
        scales: Scales; 1 has neither squeeze nor channel couplings.
        filters: Hidden channels of the checkerboard couplings of the first scale; channel couplings have twice as many,
            and each scale twice those of the scale before.
        blocks: Residual blocks of each coupling's network.
        checkerboard: Checkerboard couplings of a scale; the last scale has one more.
        channelwise: Channel couplings of a scale.
        preprocessing: "logit" as in the paper, "marginal": a trainable histogram of each channel before the logit, or
            "rescale"; see `flows.base.preprocess`.
        alpha: α of the logit. The density is normalized over the levels widened by α / (1 − 2α) of their range on
            either side; mass out there is lost, and `log_prob` is −inf beyond. With "marginal" nothing is lost.
        fold: Networks of checkerboard couplings see fold x fold sites as channels; 1 is the paper's.

    Raises:
        ValueError: The space is no image of fixed, divisible size.
    """

    def __init__(
        self,
        space: Space,
        *,
        scales: int = 2,
        filters: int = 32,
        blocks: int = 2,
        checkerboard: int = 3,
        channelwise: int = 3,
        preprocessing: str = "logit",
        alpha: float = 0.05,
        fold: int = 1,
    ) -> None:
        if space.kind != "image" or any(size % 2 ** (scales - 1) for size in space.sizes[1:]):
            raise ValueError(
                f"RealNVP: {space.kind} of shape {space.shape}; wanted an image whose height and width are "
                f"multiples of {2 ** (scales - 1)} for scales={scales}. Use fewer scales, or pad or crop the images"
            )
        first, support = preprocess(space, preprocessing, alpha)
        stages, shape = [], space.sizes
        for scale in range(scales):
            last = scale == scales - 1
            width = filters * 2**scale
            masks = [checkerboard_mask(shape, i) for i in range(checkerboard + last)]
            layers = [ActNorm(shape[0]), *self._couplings(masks, width, blocks, fold)]
            if not last:
                layers.append(Squeeze())
                shape = layers[-1].output_shape(shape)
                masks = [channel_mask(shape, i) for i in range(channelwise)]
                layers += self._couplings(masks, 2 * width, blocks, 1)
            stages.append(Compose(layers))
            shape = (shape[0] // 2, *shape[1:])
        super().__init__(space, Compose([*first, MultiScale(stages, space.sizes)]), support)

    @staticmethod
    def _couplings(masks: list[Tensor], filters: int, blocks: int, fold: int) -> list[Transform]:
        layers: list[Transform] = []
        for mask in masks:
            layers += [AffineCoupling(mask, CouplingNetwork(mask, filters, blocks, fold)), ActNorm(mask.shape[0])]
        return layers


dequantized_realnvp = uniformly_dequantized(RealNVP)
