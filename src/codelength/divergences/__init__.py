"""Divergences: exact values, estimates with standard errors, tests, objectives.

tables, gaussians   exact values                        estimators      Monte-Carlo, with standard errors
kernels             of MMD and KSD, the median rule     tests_of_fit    p-values of MMD and KSD
objectives          what a model can be trained by      grid            quadrature in the plane
planar              known densities                     experiment      one misfit under every objective
scoring_rules, identities, frechet                      what else a likelihood is compared with
"""

from codelength.divergences.estimators import Estimate
from codelength.divergences.gaussians import Gaussian
from codelength.divergences.grid import Grid, GridDensity
from codelength.divergences.kernels import (
    GaussianKernel,
    InverseMultiquadric,
    Kernel,
    PolynomialKernel,
    median_bandwidth,
)
from codelength.divergences.planar import PlanarDensity, planar_data, planar_density, planar_points
from codelength.divergences.tests_of_fit import ksd_p_value, mmd_p_value

__all__ = [
    "Estimate",
    "Gaussian",
    "GaussianKernel",
    "Grid",
    "GridDensity",
    "InverseMultiquadric",
    "Kernel",
    "PlanarDensity",
    "PolynomialKernel",
    "ksd_p_value",
    "median_bandwidth",
    "mmd_p_value",
    "planar_data",
    "planar_density",
    "planar_points",
]
