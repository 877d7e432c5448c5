"""From a network's outputs to a distribution: how a model says which numbers it wants a pixel.

A model asks `make_likelihood` for a `PixelLikelihood`, gives its network `num_parameters` outputs a site and calls the
likelihood on them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from codelength.errors import UsageError, unknown_name
from codelength.functional import log_scale_floor
from codelength.pixels.bernoulli import Bernoulli, EmissionBernoulli
from codelength.pixels.categorical import Categorical
from codelength.pixels.distribution import PixelDistribution
from codelength.pixels.logistic_mixture import LogisticMixture
from codelength.space import Space


@dataclass(frozen=True)
class PixelLikelihood:
    """A way to model a pixel.

    Args:
        name: "bernoulli", "emission", "categorical" or "logistic_mixture".
        num_parameters: Network outputs a site, all channels together.
        distribution: Takes (B, num_parameters, *S) and returns the distribution of (B, C, *S).
        initial: Returns the outputs a network should start from, (num_parameters,): broad, and different for each
            mixture component, so that no two of them stay alike. Add it as the bias of the last layer.
        spans: Whether it can be told which part of the range the outputs speak of.
    """

    name: str
    num_parameters: int
    distribution: Callable[..., PixelDistribution]
    initial: Callable[[], Tensor]
    spans: bool = False

    def __call__(self, parameters: Tensor, span: Tensor | None = None) -> PixelDistribution:
        """Distribution of a datum given the network's outputs.

        Args:
            parameters: (B, num_parameters, *S).
            span: Centre and half width of the part of [−1, 1] that the outputs take for [−1, 1], (2,); only where
                `spans`. Outputs for data that fill 1/100 of the range then need not be exact to 1/100.
        """
        if parameters.shape[1] != self.num_parameters:
            raise ValueError(f"{self.name}: {parameters.shape[1]} outputs a site; wanted {self.num_parameters}")
        return self.distribution(parameters) if span is None else self.distribution(parameters, span)


def _channels(space: Space) -> int:
    """Channels at a site: C of an image or audio clip; 1 of a sequence or vector."""
    channels = space.shape[0] if space.kind in ("image", "audio") else 1
    assert channels is not None
    return channels


def _bernoulli(space: Space) -> PixelLikelihood:
    _want_two_levels(space, "bernoulli")
    return PixelLikelihood("bernoulli", _channels(space), Bernoulli, partial(torch.zeros, _channels(space)))


def _emission(space: Space) -> PixelLikelihood:
    _want_two_levels(space, "emission")
    if space.binarization != "dynamic":
        raise UsageError(
            "pixel likelihood 'emission' speaks of dynamically binarized data; choose a data set named NAME-dynamic "
            "or the likelihood 'bernoulli'"
        )
    return PixelLikelihood("emission", _channels(space), EmissionBernoulli, partial(torch.zeros, _channels(space)))


def _categorical(space: Space) -> PixelLikelihood:
    channels, levels = _channels(space), space.levels

    def distribution(parameters: Tensor) -> Categorical:
        return Categorical(parameters.unflatten(1, (channels, levels)))

    return PixelLikelihood("categorical", channels * levels, distribution, partial(torch.zeros, channels * levels))


def _logistic_mixture(space: Space, components: int = 10, coupling: bool | None = None) -> PixelLikelihood:
    if components < 1:
        raise UsageError(f"pixel likelihood 'logistic_mixture': components={components}; wanted at least 1")
    channels, levels, k = _channels(space), space.levels, components
    coupled = channels > 1 if coupling is None else coupling and channels > 1
    num_coefficients = channels * (channels - 1) // 2 if coupled else 0
    floor = log_scale_floor(levels)

    def distribution(parameters: Tensor, span: Tensor | None = None) -> LogisticMixture:
        # float32 at least: levels of 2 / 255 are not resolved by bfloat16. For 65,536 levels it suffices: the masses are
        # computed in levels, and a mean is off by at most 1/250 of one.
        wide = parameters.dtype == torch.float64
        # Components and channels are slices of dim 1: element-wise work on them is twice as fast if they have no gaps.
        parameters = (parameters.double() if wide else parameters.float()).contiguous()
        logits, rest = parameters[:, :k], parameters[:, k:].unflatten(1, (k, 2 * channels + num_coefficients))
        mean, log_scale = rest[:, :, :channels], rest[:, :, channels : 2 * channels]
        coefficients = torch.tanh(rest[:, :, 2 * channels :]) if coupled else None
        if span is not None:
            mean, log_scale = _within(span.to(mean), mean, log_scale, coefficients)
        return LogisticMixture(logits, mean, log_scale.clamp(min=floor), levels, coefficients)

    def initial() -> Tensor:
        """Equal weights, means spread evenly over the levels, scales that overlap, no coupling."""
        values = torch.zeros(k, 2 * channels + num_coefficients)
        values[:, :channels] = ((2 * torch.arange(k) + 1) / k - 1).unsqueeze(1)
        # One component serves all channels of a site, which need not be at one level: wider for colour.
        values[:, channels : 2 * channels] = max(-math.log(k) - 1 if channels == 1 else -1.5, floor)
        return torch.cat([torch.zeros(k), values.flatten()])

    size = k * (1 + 2 * channels + num_coefficients)
    return PixelLikelihood("logistic_mixture", size, distribution, initial, spans=True)


def _within(span: Tensor, mean: Tensor, log_scale: Tensor, coefficients: Tensor | None) -> tuple[Tensor, Tensor]:
    """Means and log scales on [−1, 1] of outputs that take centre ± half width for it.

    Channels before enter a mean by their distance to the centre too: c + h (m + Σ a_j (y_j − c) / h) is
    c + h m − c Σ a_j, plus the Σ a_j y_j that the mixture adds.
    """
    centre, half_width = span
    mean = centre + half_width * mean
    if coefficients is not None:
        # Row c (c − 1) / 2 + j of the coefficients belongs to channel c.
        sums = [coefficients[:, :, c * (c - 1) // 2 : c * (c + 1) // 2].sum(2) for c in range(mean.shape[2])]
        mean = mean - centre * torch.stack(sums, dim=2)
    return mean, log_scale + half_width.log()


def _want_two_levels(space: Space, name: str) -> None:
    if space.levels != 2:
        raise UsageError(
            f"pixel likelihood {name!r} models 2 levels but the data have {space.levels}; choose a binarized data set "
            "(NAME-static, NAME-dynamic, NAME-threshold) or the likelihood 'categorical' or 'logistic_mixture'"
        )


LIKELIHOODS: dict[str, Callable[..., PixelLikelihood]] = {
    "bernoulli": _bernoulli,
    "emission": _emission,
    "categorical": _categorical,
    "logistic_mixture": _logistic_mixture,
}


def make_likelihood(name: str, space: Space, **options: Any) -> PixelLikelihood:
    """The pixel likelihood `name` for data of `space`.

    Args:
        name: A key of LIKELIHOODS.
        space: What the data are.
        options: For "logistic_mixture": components (10), coupling (between channels; on for colour).

    Raises:
        UsageError: Unknown name or option, or the likelihood does not fit the space.

    >>> make_likelihood("logistic_mixture", Space.image(3, 32, 32)).num_parameters
    100
    """
    if name not in LIKELIHOODS:
        raise unknown_name("pixel likelihood", name, LIKELIHOODS)
    known = list(inspect.signature(LIKELIHOODS[name]).parameters)[1:]
    for option in options:
        if option not in known:
            raise unknown_name(f"option of pixel likelihood {name!r}:", option, known or ["(none)"])
    return LIKELIHOODS[name](space, **options)


def pixel_likelihood(
    space: Space,
    pixels: str | None,
    components: int | None,
    *,
    coupling: bool | None = None,
    emission: bool = False,
) -> PixelLikelihood:
    """The pixel likelihood of an image model from its options.

    Args:
        space: Images.
        pixels: Name of the likelihood; None: "bernoulli" for two levels, "logistic_mixture" for more.
        components: Number of mixture components; only for "logistic_mixture".
        coupling: Whether its channels depend on each other given the component; None: where there are several.
        emission: Whether the model may use "emission", which needs a model that never looks at the data.

    Raises:
        UsageError: The space holds no images, or the options contradict each other.
    """
    if space.kind != "image":
        raise UsageError(f"the model speaks of images but the data are of kind {space.kind!r}; choose another system")
    name = pixels or ("bernoulli" if space.levels == 2 else "logistic_mixture")
    if name == "emission" and not emission:
        raise UsageError(
            "pixel likelihood 'emission' is an expectation over binarizations, in closed form only for models whose "
            "parameters do not depend on the data (mean_field); choose 'bernoulli'"
        )
    options = {"components": components, "coupling": coupling}
    return make_likelihood(name, space, **{key: value for key, value in options.items() if value is not None})
