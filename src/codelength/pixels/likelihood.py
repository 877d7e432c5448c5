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
from codelength.functional import MixtureLayout
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
    channels, k = _channels(space), components
    coupled = channels > 1 if coupling is None else coupling and channels > 1
    layout = MixtureLayout(channels, k, space.levels, coupled)

    def distribution(parameters: Tensor, span: Tensor | None = None) -> LogisticMixture:
        return LogisticMixture(parameters, layout, span)

    def initial() -> Tensor:
        """Equal weights, means spread evenly over the levels, scales that overlap, no coupling."""
        values = torch.zeros(k, 2 * channels + layout.num_coefficients)
        values[:, :channels] = ((2 * torch.arange(k) + 1) / k - 1).unsqueeze(1)
        # One component serves all channels of a site, which need not be at one level: wider for colour.
        values[:, channels : 2 * channels] = max(-math.log(k) - 1 if channels == 1 else -1.5, layout.floor)
        return torch.cat([torch.zeros(k), values.flatten()])

    return PixelLikelihood("logistic_mixture", layout.num_parameters, distribution, initial, spans=True)


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
