"""What a convolutional network reads of an image: levels on [−1, 1], and a channel of ones."""

from __future__ import annotations

import torch
from torch import Tensor

from codelength.nn.causal_conv import spread_groups
from codelength.space import Space


def scale_levels(levels: Tensor, num_levels: int, dtype: torch.dtype) -> Tensor:
    """Levels 0 .. L − 1 on [−1, 1]."""
    return levels.to(dtype) * (2 / (num_levels - 1)) - 1


def image_inputs(levels: Tensor, space: Space, dtype: torch.dtype) -> Tensor:
    """Levels scaled to [−1, 1] and a channel of ones, which tells the image from the zeros around it.

    (B, C, H, W) to (B, C + 1, H, W), channels-last.
    """
    scaled = scale_levels(levels, space.levels, dtype)
    return torch.cat([scaled, torch.ones_like(scaled[:, :1])], dim=1).contiguous(memory_format=torch.channels_last)


def image_groups(space: Space, groups: int) -> Tensor:
    """The group of each channel of `image_inputs`, (C + 1,); the ones go with the last."""
    channels = spread_groups(space.shape[0] or 1, groups)
    return torch.cat([channels, channels[-1:]])
