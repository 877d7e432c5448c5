"""Bijections with log|det J|, and stochastic steps that return their term of a bound."""

from codelength.transforms.bijections import (
    ActNorm,
    AdditiveCoupling,
    AffineCoupling,
    Logit,
    MarginalLogit,
    Rescale,
    Squeeze,
    channel_mask,
    checkerboard_mask,
)
from codelength.transforms.dequantization import Dequantized, Dequantizer, Discretized, UniformDequantization
from codelength.transforms.multiscale import MultiScale
from codelength.transforms.transform import Compose, Transform

__all__ = [
    "ActNorm",
    "AdditiveCoupling",
    "AffineCoupling",
    "Compose",
    "Dequantized",
    "Dequantizer",
    "Discretized",
    "Logit",
    "MarginalLogit",
    "MultiScale",
    "Rescale",
    "Squeeze",
    "Transform",
    "UniformDequantization",
    "channel_mask",
    "checkerboard_mask",
]
