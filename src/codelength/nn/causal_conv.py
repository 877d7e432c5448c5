"""Convolutions that see a site's past only, and inside a site only the channels before.

An output (i, j) with `before` = (top, left) and kernel (kh, kw) reads rows i − top .. i − top + kh − 1 and columns
j − left .. j − left + kw − 1 (zero outside). Of these, taps after (i, j) in raster order are masked. At (i, j) itself, the
own tap, features are split into groups, one for every channel that the masks separate (all of red, then green, then blue):

    mask A    an output of group g reads the features of groups < g
    mask B    an output of group g reads the features of groups <= g

With one group, mask A removes the own tap and mask B keeps it. Most of what a square kernel would mask is not there at all:
the rows below are left out of the kernel.

Weights are matrices, (outputs, kh * kw * inputs): what a convolution wants with channels last, what cached steps multiply
with, and what an optimizer of matrices (Muon) can take.

Reference: PixelRNN, arXiv:1601.06759, section 3.4 and figure 4.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

OwnTap = Literal["A", "B", "all"]


def spread_groups(features: int, groups: int) -> Tensor:
    """The group of each feature: as equal as can be, ascending, (features,) int64.

    >>> spread_groups(5, 3).tolist()
    [0, 0, 1, 1, 2]
    """
    return torch.arange(features, device="cpu") * groups // max(features, 1)


class CausalConv(nn.Module):
    """A convolution over past sites; sizes stay as they are.

    Args:
        in_groups: Group of each input feature, (inputs,).
        out_groups: Group of each output feature, (outputs,).
        kernel: (kh, kw).
        before: Rows above and columns to the left of the output's own that the kernel reaches; it may reach no further
            to the right than to the left.
        own: Mask of the own tap; "all" for inputs that hold nothing of the site itself.
        init_scale: Standard deviation of the outputs at the start, for inputs of unit variance.

    Raises:
        ValueError: The kernel reaches further right than left, or past the row itself.
    """

    mask: Tensor | None

    def __init__(
        self,
        in_groups: Tensor,
        out_groups: Tensor,
        kernel: tuple[int, int],
        before: tuple[int, int],
        own: OwnTap = "all",
        *,
        init_scale: float = 1.0,
    ) -> None:
        super().__init__()
        (kh, kw), (top, left) = kernel, before
        if kw - 1 > 2 * left or kh - 1 > top:
            raise ValueError(f"CausalConv: kernel {kernel} before {before} reaches below the row or too far right")
        self.inputs, self.outputs, self.kernel, self.before = len(in_groups), len(out_groups), kernel, before
        self.in_groups, self.out_groups = in_groups, out_groups
        mask = self._mask(in_groups, out_groups, own)
        fan_in = mask.sum(1, keepdim=True).clamp(min=1)
        self.register_buffer("mask", None if bool(mask.all()) else mask, persistent=False)
        self.weight = nn.Parameter(torch.randn(mask.shape))
        with torch.no_grad():
            self.weight.mul_((init_scale / fan_in.sqrt()).to(self.weight.device))
        self.bias = nn.Parameter(torch.zeros(self.outputs))

    def _mask(self, in_groups: Tensor, out_groups: Tensor, own: OwnTap) -> Tensor:
        mask = torch.ones(self.outputs, len(self.offsets), self.inputs, dtype=torch.bool, device="cpu")
        readable = {
            "A": in_groups[None, :] < out_groups[:, None],
            "B": in_groups[None, :] <= out_groups[:, None],
            "all": mask[:, 0],
        }
        for tap, offset in enumerate(self.offsets):
            if offset == (0, 0):
                mask[:, tap] = readable[own]
            elif offset > (0, 0) and own != "all":
                mask[:, tap] = False
        return mask.flatten(1)

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """(row, column) of each tap relative to the output's site, in the order of the weight's columns."""
        (kh, kw), (top, left) = self.kernel, self.before
        return [(r - top, c - left) for r in range(kh) for c in range(kw)]

    def used_taps(self) -> list[int]:
        """Taps with a weight that is not masked."""
        if self.mask is None:
            return list(range(len(self.offsets)))
        used = self.mask.unflatten(1, (len(self.offsets), self.inputs)).any(2).any(0)
        return [tap for tap, is_used in enumerate(used.tolist()) if is_used]

    def matrix(self) -> Tensor:
        """The masked weight, (outputs, kh * kw * inputs)."""
        return self.weight if self.mask is None else self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        weight = self.matrix().unflatten(1, (*self.kernel, self.inputs)).permute(0, 3, 1, 2)  # channels-last
        out = F.conv2d(x, weight, self.bias, padding=self.before)
        return out[:, :, : x.shape[2], : x.shape[3]]
