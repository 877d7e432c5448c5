"""The gated residual block of PixelCNN++.

    c = conv(concat_elu(x)) + Σ_i W_i concat_elu(a_i)
    a, b = split(conv(dropout(concat_elu(c))) + V h),      out = x + a σ(b)

a_i are other features of the same site (the other stream, shortcuts), h the class.

Reference: PixelCNN++, arXiv:1701.05517, section 2.3-2.4 and released code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from codelength.nn.activations import Feature
from codelength.nn.fused_block import elu_dropout, gated_feature
from codelength.nn.shifted_conv import PointwiseLinear, ShiftedConv


class GatedResidual(nn.Module):
    """Gated residual block with shifted convolutions.

    Args:
        filters: Channels F.
        kernel: Kernel of both convolutions, shifted up and left by one.
        aux: Number of auxiliary features.
        dropout: Probability of dropout between the convolutions.
        classes: Number of classes it is conditioned on, 0 for none.
    """

    def __init__(self, filters: int, kernel: tuple[int, int], aux: int, dropout: float, classes: int) -> None:
        super().__init__()
        self.conv_in = ShiftedConv(2 * filters, filters, kernel, (1, 1))
        self.conv_out = ShiftedConv(2 * filters, 2 * filters, kernel, (1, 1), init_scale=0.1)
        self.aux = PointwiseLinear(2 * filters * aux, filters) if aux else None
        self.class_bias = nn.Parameter(torch.zeros(classes, 2 * filters)) if classes else None
        self.dropout = dropout

    def forward(self, x: Feature, *aux: Tensor, label: Tensor | None = None) -> Feature:
        """The block's output at every site.

        Args:
            x: Feature of the stream, (B, F, H, W).
            aux: `active` of the auxiliary features, (B, 2F, H, W) each.
            label: Classes, (B,).
        """
        sites = (x.value.shape[2], x.value.shape[3])
        # What a shifted convolution computes beyond its sites is cut off by the element-wise passes, which saves the
        # backward pass of the cut. Without gradients cutting costs nothing.
        crop = not torch.is_grad_enabled()
        c = self.conv_in(x.active, crop=crop)
        a = [] if self.aux is None else [self.aux(*aux)] if crop else self.aux.parts(*aux)
        gated = self.conv_out(elu_dropout(c, a, sites, self.dropout, self.training), crop=crop)
        if self.class_bias is not None:
            gated = gated + self.class_bias[label][:, :, None, None]
        return gated_feature(x.value, gated, sites)
