"""Mathematics: pure functions of tensors, without parameters or global state."""

from codelength.functional.discretized_logistic import (
    discretized_logistic_cdf,
    discretized_logistic_log_mass,
    log_scale_floor,
)
from codelength.functional.logarithms import log1mexp, log_mean_exp
from codelength.functional.logistic_mixture import (
    MixtureLayout,
    MixtureParameters,
    logistic_mixture_log_mass,
    unpack_mixture,
)

__all__ = [
    "MixtureLayout",
    "MixtureParameters",
    "discretized_logistic_cdf",
    "discretized_logistic_log_mass",
    "log1mexp",
    "log_mean_exp",
    "log_scale_floor",
    "logistic_mixture_log_mass",
    "unpack_mixture",
]
