"""Distributions of one datum's integers, given a network's outputs."""

from codelength.pixels.bernoulli import Bernoulli, EmissionBernoulli
from codelength.pixels.categorical import Categorical
from codelength.pixels.distribution import ChannelDistribution, PixelDistribution
from codelength.pixels.likelihood import LIKELIHOODS, PixelLikelihood, make_likelihood, pixel_likelihood
from codelength.pixels.logistic_mixture import LogisticMixture
from codelength.pixels.stepped_mixture import SteppedMixture
from codelength.pixels.uniform import UniformPixels

__all__ = [
    "LIKELIHOODS",
    "Bernoulli",
    "Categorical",
    "ChannelDistribution",
    "EmissionBernoulli",
    "LogisticMixture",
    "PixelDistribution",
    "PixelLikelihood",
    "SteppedMixture",
    "UniformPixels",
    "make_likelihood",
    "pixel_likelihood",
]
