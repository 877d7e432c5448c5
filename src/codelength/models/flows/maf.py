"""MAF: a stack of autoregressive transforms, each in the order opposite to the one before.

Idea. A Gaussian autoregressive model is a flow: its noise is a function of the data. Stacked, the noise of one layer is
modelled by the next, which sees it in another order.

    y -> preprocessing -> (masked autoregressive -> ActNorm) x layers -> z

Scoring takes one pass a layer; sampling as many as the datum has numbers. With "spline" the map of each number is a
rational-quadratic spline instead of affine (Durkan et al., arXiv:1906.04032).

Departures from the paper. ActNorm for batch normalization, as in RealNVP; scales are tanh-bounded; images are in
raster order, channels one after the other.

Paper: Papamakarios et al., "Masked Autoregressive Flow for Density Estimation", arXiv:1705.07057.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from codelength.errors import unknown_name
from codelength.models.flows.base import Flow, preprocess
from codelength.space import Space
from codelength.transforms import (
    ActNorm,
    Affine,
    Compose,
    Elementwise,
    Flatten,
    MaskedAutoregressive,
    RationalQuadraticSpline,
    Transform,
)
from codelength.transforms.dequantization import uniformly_dequantized


class MAF(Flow):
    """A density over images or vectors of fixed size.

    Args:
        space: What the data are.
        layers: Autoregressive transforms.
        hidden: Sizes of the hidden layers of each network.
        residual: Residual hidden layers, all of one size.
        map: "affine" as in the paper, or "spline".
        bins: Bins of a spline.
        preprocessing: "logit", "marginal" or "rescale"; see `flows.base.preprocess`.
        alpha: α of "logit".

    Raises:
        UsageError: An option is unknown.
    """

    def __init__(
        self,
        space: Space,
        *,
        layers: int = 5,
        hidden: Sequence[int] = (256,),
        residual: bool = False,
        map: str = "affine",
        bins: int = 8,
        preprocessing: str = "logit",
        alpha: float = 0.05,
    ) -> None:
        kinds: dict[str, Elementwise] = {"affine": Affine("tanh"), "spline": RationalQuadraticSpline(bins)}
        if map not in kinds:
            raise unknown_name("map of MAF", map, kinds)
        first, support = preprocess(space, preprocessing, alpha)
        dims = math.prod(space.sizes)
        steps: list[Transform] = [Flatten(space.sizes)]
        for i in range(layers):
            transform = MaskedAutoregressive(kinds[map], dims, hidden, backwards=i % 2 == 1, residual=residual)
            steps += [transform, ActNorm(dims)]
        super().__init__(space, Compose([*first, *steps]), support)


dequantized_maf = uniformly_dequantized(MAF)
