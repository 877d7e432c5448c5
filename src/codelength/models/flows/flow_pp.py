"""Flow++: couplings by the CDF of a mixture of logistics, attention in their networks, dequantization by a flow.

Idea. Three weaknesses of affine flows, mended one each: uniform noise asks for a density that is flat in every bin, so
the noise is learned (`VariationalDequantization`); affine couplings cannot bend, so the coupled half passes the CDF of
a mixture of logistics; convolutions see little, so the networks attend over all sites.

    y -> preprocessing -> checkerboard couplings -> squeeze -> channel couplings -> checkerboard couplings -> z

Each coupling comes after an ActNorm and an invertible 1x1 convolution that starts near the identity; the half that
conditions alternates. No half of the channels leaves early.

Departures from the paper. The released code's "checkerboard" pairs alternate columns, ours the two colours of a
checkerboard. The noise that is dequantized with is logistic (see `transforms.dequantization.variational`). Its ActNorms have a pair a site and channel, ours a pair a channel, and its 1x1 convolutions mix the
channels of each half, ours of both. Convolutions keep their data-dependent scale as a parameter.

Paper: Ho et al., "Flow++", arXiv:1902.00275.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from codelength.errors import UsageError, unknown_name
from codelength.models.flows.base import Flow, preprocess
from codelength.nn.conv_attention import ConvAttention, GatedConv
from codelength.nn.scaled_conv import ScaledConv
from codelength.space import Space
from codelength.transforms import (
    ActNorm,
    Checkerboard,
    Compose,
    Dequantized,
    Dequantizer,
    Inverse,
    InvertibleConv,
    LogisticMixture,
    SplitCoupling,
    Squeeze,
    Transform,
    UniformDequantization,
    VariationalDequantization,
)

DEQUANTIZATION = ("variational", "uniform")


def mixture_couplings(
    shape: tuple[int, ...], count: int, *, components: int, filters: int, blocks: int, **network: Any
) -> list[Transform]:
    """`count` times ActNorm, 1x1 convolution and mixture coupling, alternating which half of the channels conditions.

    Args:
        shape: (C, H, W) of the data at this point.
        count: Number of couplings.
        components, filters, blocks, network: Of the mixture and of `ConvAttention`.
    """
    channels, *sites = shape
    kind = LogisticMixture(components)
    layers: list[Transform] = []
    for i in range(count):
        small = channels // 2
        conditioner = ConvAttention((channels - small, *sites), kind.num_parameters * small, filters, blocks, **network)
        layers += [
            ActNorm(channels),
            InvertibleConv(channels, noise=0.001),
            SplitCoupling(kind, conditioner, swap=i % 2 == 1),
        ]
    return layers


class FlowPP(Flow):
    """A density over images, exact to evaluate and, by root finding, to sample.

    Args:
        space: Images of fixed sizes, with height a multiple of 2 and width of 4.
        couplings: Couplings with a checkerboard, with channels after the squeeze, and with a checkerboard again.
        filters: Hidden channels of the networks.
        blocks: Blocks of the networks.
        components: Components of the mixtures.
        heads: Attention heads; 0 leaves attention out.
        dropout: Probability of dropout in the networks, in training.
        fold: Networks of the first checkerboard couplings see fold x fold sites as channels; the paper's is 1.
        preprocessing: "logit", "marginal" or "rescale"; see `flows.base.preprocess`.
        alpha: α of "logit".

    Raises:
        UsageError: The space is no image of fixed, divisible size, or an option is unknown.
    """

    def __init__(
        self,
        space: Space,
        *,
        couplings: Sequence[int] = (4, 2, 3),
        filters: int = 32,
        blocks: int = 2,
        components: int = 8,
        heads: int = 4,
        dropout: float = 0.0,
        fold: int = 1,
        preprocessing: str = "logit",
        alpha: float = 0.05,
    ) -> None:
        _check_image(space)
        if len(couplings) != 3:
            raise UsageError(f"FlowPP: couplings={list(couplings)}; wanted three numbers, such as [4, 2, 3]")
        if heads and filters % heads:
            raise UsageError(f"FlowPP: filters={filters} and heads={heads}; wanted a multiple of the heads")
        network: dict[str, Any] = {
            "components": components,
            "filters": filters,
            "blocks": blocks,
            "heads": heads,
            "dropout": dropout,
        }
        layers: list[Transform] = []
        shape = space.sizes
        for stage, count in enumerate(couplings):
            if stage == 1:
                layers.append(Squeeze())
                shape = layers[-1].output_shape(shape)
            if not count:
                continue
            if stage == 1:
                layers += mixture_couplings(shape, count, **network)
                continue
            board = Checkerboard()
            inner = mixture_couplings(board.output_shape(shape), count, fold=fold if stage == 0 else 1, **network)
            layers += [board, *inner, Inverse(Checkerboard())]
        first, support = preprocess(space, preprocessing, alpha)
        super().__init__(space, Compose([*first, *layers]), support)


class Features(nn.Module):
    """What the dequantizer sees of the datum: both colours of the checkerboard, then gated convolutions."""

    def __init__(self, channels: int, filters: int, blocks: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.board = Checkerboard()
        self.enter = ScaledConv(2 * channels, filters, 3)
        self.blocks = nn.ModuleList(GatedConv(filters, 0, dropout, kernel=3) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, filters, H, W / 2)."""
        h = self.enter(self.board(x)[0].contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            h = block(h)
        return h

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Set the scales of the convolutions from a batch."""
        h = self.enter.initialize(self.board(x)[0])
        for block in self.blocks:
            h = block(h, None, lambda conv, value: conv.initialize(value))


def variational_dequantization(
    space: Space,
    *,
    couplings: int = 4,
    filters: int = 32,
    blocks: int = 2,
    components: int = 8,
    heads: int = 4,
    dropout: float = 0.0,
    fold: int = 1,
    features: int = 32,
) -> VariationalDequantization:
    """The dequantizer of Flow++: mixture couplings on a checkerboard of noise, given three gated convolutions of x."""
    _check_image(space)
    board = Checkerboard()
    inner = mixture_couplings(
        board.output_shape(space.sizes),
        couplings,
        components=components,
        filters=filters,
        blocks=blocks,
        heads=heads,
        dropout=dropout,
        fold=fold,
        features=features,
    )
    flow = Compose([board, *inner, Inverse(Checkerboard())])
    return VariationalDequantization(
        flow, Features(space.sizes[0], features, 3, dropout), levels=space.levels, offset=space.offset
    )


def _check_image(space: Space) -> None:
    if space.kind != "image" or space.sizes[1] % 2 or space.sizes[2] % 4:
        raise UsageError(
            f"Flow++: {space.kind} of shape {space.shape}; wanted an image whose height is a multiple of 2 and whose width "
            "is one of 4. Pad or crop the images"
        )


def flow_pp(
    space: Space,
    *,
    couplings: Sequence[int] = (4, 2, 3),
    filters: int = 32,
    blocks: int = 2,
    components: int = 8,
    heads: int = 4,
    dropout: float = 0.0,
    fold: int = 1,
    preprocessing: str = "logit",
    alpha: float = 0.05,
    dequantization: str = "variational",
    noise_couplings: int = 4,
    noise_filters: int | None = None,
    noise_blocks: int = 2,
    noise_features: int = 32,
) -> Dequantized:
    """`FlowPP` under its dequantizer.

    Args:
        space, couplings, filters, blocks, components, heads, dropout, fold, preprocessing, alpha: See `FlowPP`; the
            networks of the dequantizer share components, heads, dropout and fold.
        dequantization: "variational" or "uniform".
        noise_couplings, noise_filters, noise_blocks: Couplings of the dequantizer, and their networks' size; by default
            as many filters as the density's.
        noise_features: Channels of the features of the datum.
    """
    if dequantization not in DEQUANTIZATION:
        raise unknown_name("dequantization of flow_pp", dequantization, DEQUANTIZATION)
    network: dict[str, Any] = {"components": components, "heads": heads, "dropout": dropout, "fold": fold}
    density = FlowPP(
        space,
        couplings=couplings,
        filters=filters,
        blocks=blocks,
        preprocessing=preprocessing,
        alpha=alpha,
        **network,
    )
    dequantizer: Dequantizer = UniformDequantization(space.levels)
    if dequantization == "variational":
        dequantizer = variational_dequantization(
            space,
            couplings=noise_couplings,
            filters=noise_filters or filters,
            blocks=noise_blocks,
            features=noise_features,
            **network,
        )
    return Dequantized(density, dequantizer)
