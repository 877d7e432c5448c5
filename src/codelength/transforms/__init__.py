"""Bijections with log|det J|, and stochastic steps that return their term of a bound."""

from codelength.transforms.bijections import (
    ActNorm,
    Additive,
    AdditiveCoupling,
    Affine,
    AffineCoupling,
    ClassAffine,
    Elementwise,
    InvertibleConv,
    Logit,
    MarginalLogit,
    Rescale,
    SplitCoupling,
    Squeeze,
    channel_mask,
    checkerboard_mask,
)
from codelength.transforms.dequantization import Dequantized, Dequantizer, Discretized, UniformDequantization
from codelength.transforms.multiscale import MultiScale
from codelength.transforms.transform import Compose, Transform

__all__ = [
    "ActNorm",
    "Additive",
    "AdditiveCoupling",
    "Affine",
    "AffineCoupling",
    "ClassAffine",
    "Compose",
    "Dequantized",
    "Dequantizer",
    "Discretized",
    "Elementwise",
    "InvertibleConv",
    "Logit",
    "MarginalLogit",
    "MultiScale",
    "Rescale",
    "SplitCoupling",
    "Squeeze",
    "Transform",
    "UniformDequantization",
    "channel_mask",
    "checkerboard_mask",
]
