"""Bijections: exact log-determinants both ways."""

from codelength.transforms.bijections.actnorm import ActNorm
from codelength.transforms.bijections.autoregressive import InverseAutoregressive, MaskedAutoregressive
from codelength.transforms.bijections.checkerboard import Checkerboard
from codelength.transforms.bijections.class_affine import ClassAffine
from codelength.transforms.bijections.coupling import AdditiveCoupling, AffineCoupling, channel_mask, checkerboard_mask
from codelength.transforms.bijections.elementwise import Additive, Affine, Elementwise
from codelength.transforms.bijections.flatten import Flatten
from codelength.transforms.bijections.invertible_conv import InvertibleConv
from codelength.transforms.bijections.logistic_mixture import LogisticMixture
from codelength.transforms.bijections.marginal import MarginalLogit
from codelength.transforms.bijections.preprocessing import Logit, Rescale
from codelength.transforms.bijections.spline import RationalQuadraticSpline
from codelength.transforms.bijections.split_coupling import SplitCoupling
from codelength.transforms.bijections.squeeze import Squeeze

__all__ = [
    "ActNorm",
    "Additive",
    "AdditiveCoupling",
    "Affine",
    "AffineCoupling",
    "Checkerboard",
    "ClassAffine",
    "Elementwise",
    "Flatten",
    "InverseAutoregressive",
    "InvertibleConv",
    "Logit",
    "LogisticMixture",
    "MarginalLogit",
    "MaskedAutoregressive",
    "RationalQuadraticSpline",
    "Rescale",
    "SplitCoupling",
    "Squeeze",
    "channel_mask",
    "checkerboard_mask",
]
