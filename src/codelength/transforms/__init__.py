"""Bijections with log|det J|, and stochastic steps that return their term of a bound."""

from codelength.transforms.bijections import (
    ActNorm,
    Additive,
    AdditiveCoupling,
    Affine,
    AffineCoupling,
    Checkerboard,
    ClassAffine,
    Elementwise,
    InvertibleConv,
    LogisticMixture,
    Logit,
    MarginalLogit,
    Rescale,
    SplitCoupling,
    Squeeze,
    channel_mask,
    checkerboard_mask,
)
from codelength.transforms.dequantization import (
    Dequantized,
    Dequantizer,
    Discretized,
    UniformDequantization,
    VariationalDequantization,
)
from codelength.transforms.multiscale import MultiScale
from codelength.transforms.transform import Compose, Inverse, Transform

__all__ = [
    "ActNorm",
    "Additive",
    "AdditiveCoupling",
    "Affine",
    "AffineCoupling",
    "Checkerboard",
    "ClassAffine",
    "Compose",
    "Dequantized",
    "Dequantizer",
    "Discretized",
    "Elementwise",
    "Inverse",
    "InvertibleConv",
    "Logit",
    "LogisticMixture",
    "MarginalLogit",
    "MultiScale",
    "Rescale",
    "SplitCoupling",
    "Squeeze",
    "Transform",
    "UniformDequantization",
    "VariationalDequantization",
    "channel_mask",
    "checkerboard_mask",
]
