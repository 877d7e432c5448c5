"""Glow: a flow of many equal steps, each an ActNorm, an invertible 1x1 convolution and an affine coupling.

Idea. RealNVP's fixed alternation of masks becomes a learned mixing of the channels, so that a step is always the same
and depth is one number:

    y -> preprocessing -> [squeeze -> (ActNorm -> 1x1 convolution -> coupling) x depth -> half out] x (levels − 1)
                       -> squeeze -> (...) x depth -> z

The half that leaves a scale is modelled given the half that goes on, N(z_2; μ(z_1), σ(z_1)): an affine coupling in front
of the split makes it standard normal. Class-conditional: the label shifts the hidden units of every coupling and
gives the last latents their mean and scale.

Departures from the paper. Scales are σ(raw + 2) plus a floor of 0.001, and those of the split priors tanh-bounded, so
that no inverse divides by zero. The ActNorms inside the networks are folded into the convolutions' weights: the same
function. The paper has a classification loss for its class-conditional model; here the label is only given.

Paper: Kingma & Dhariwal, "Glow: Generative Flow with Invertible 1x1 Convolutions", arXiv:1807.03039.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from codelength.errors import UsageError, unknown_name
from codelength.models.flows.base import Flow, number_of_classes, preprocess
from codelength.nn.coupling_network import CouplingNetwork
from codelength.nn.scaled_conv import ScaledConv
from codelength.space import Space
from codelength.transforms import (
    ActNorm,
    Additive,
    Affine,
    ClassAffine,
    Compose,
    Elementwise,
    InvertibleConv,
    MultiScale,
    SplitCoupling,
    Squeeze,
    Transform,
)
from codelength.transforms.dequantization import uniformly_dequantized


class SplitPrior(nn.Module):
    """One 3x3 convolution that starts at zero: mean and scale of the half that leaves, given the half that stays."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.conv = ScaledConv(channels, outputs, 3, gain=0.0, rate=3.0)

    def forward(self, x: Tensor, **context: Any) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class Glow(Flow):
    """A density over images, exact to evaluate and to sample.

    Args:
        space: Images with fixed sizes divisible by 2^scales.
        scales: Scales L; each starts with a squeeze.
        depth: Steps K of each scale.
        filters: Hidden channels of the couplings' networks: one number, or one for each scale.
        coupling: "affine" or "additive".
        preprocessing: "logit", "marginal" or "rescale"; see `flows.base.preprocess`.
        alpha: α of "logit".
        class_conditional: Take the data's label.

    Raises:
        UsageError: The space is no image of fixed, divisible size, or an option is unknown.
    """

    def __init__(
        self,
        space: Space,
        *,
        scales: int = 2,
        depth: int = 8,
        filters: int | list[int] = 64,
        coupling: str = "affine",
        preprocessing: str = "logit",
        alpha: float = 0.05,
        class_conditional: bool = False,
    ) -> None:
        if space.kind != "image" or any(size % 2**scales for size in space.sizes[1:]):
            raise UsageError(
                f"Glow: {space.kind} of shape {space.shape}; wanted an image whose height and width are multiples of "
                f"{2**scales} for scales={scales}. Use fewer scales, or pad or crop the images"
            )
        widths = [filters] * scales if isinstance(filters, int) else list(filters)
        if len(widths) != scales:
            raise UsageError(f"Glow: filters={filters} for scales={scales}; wanted one number, or one for each scale")
        classes = number_of_classes(space, class_conditional)
        kind = coupling_kind(coupling)
        stages: list[Transform] = []
        shape = space.sizes
        for scale, width in enumerate(widths):
            squeeze = Squeeze()
            shape = squeeze.output_shape(shape)
            steps = [step for _ in range(depth) for step in glow_step(shape[0], width, kind, classes)]
            half = shape[0] // 2
            if scale < scales - 1:
                steps.append(SplitCoupling(Affine("tanh"), SplitPrior(half, 2 * half)))
            else:
                steps.append(ActNorm(shape[0]))
                steps += [ClassAffine(shape[0], classes)] if classes else []
            stages.append(Compose([squeeze, *steps]))
            shape = (half, *shape[1:])
        first, support = preprocess(space, preprocessing, alpha)
        flow = Compose([*first, MultiScale(stages, space.sizes)])
        super().__init__(space, flow, support, conditioning=("label",) if class_conditional else ())


def coupling_kind(coupling: str) -> Elementwise:
    """The elementwise map of a name."""
    kinds: dict[str, Elementwise] = {"affine": Affine(), "additive": Additive()}
    if coupling not in kinds:
        raise unknown_name("coupling of Glow", coupling, kinds)
    return kinds[coupling]


def glow_step(channels: int, filters: int, kind: Elementwise, classes: int = 0) -> list[Transform]:
    """One step of flow: ActNorm, invertible 1x1 convolution, coupling (table 1 of the paper)."""
    changed = channels // 2
    network = CouplingNetwork(channels - changed, kind.num_parameters * changed, filters, classes)
    return [ActNorm(channels), InvertibleConv(channels), SplitCoupling(kind, network)]


dequantized_glow = uniformly_dequantized(Glow)
