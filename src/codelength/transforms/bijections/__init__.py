"""Bijections: exact log-determinants both ways."""

from codelength.transforms.bijections.actnorm import ActNorm
from codelength.transforms.bijections.coupling import AdditiveCoupling, AffineCoupling, channel_mask, checkerboard_mask
from codelength.transforms.bijections.marginal import MarginalLogit
from codelength.transforms.bijections.preprocessing import Logit, Rescale
from codelength.transforms.bijections.squeeze import Squeeze

__all__ = [
    "ActNorm",
    "AdditiveCoupling",
    "AffineCoupling",
    "Logit",
    "MarginalLogit",
    "Rescale",
    "Squeeze",
    "channel_mask",
    "checkerboard_mask",
]
