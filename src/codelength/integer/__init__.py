"""Exact arithmetic: networks of integers that give the same numbers on every machine. docs/exact.md has the proofs."""

from codelength.integer.calibration import Observations, observe
from codelength.integer.channel import IntegerChannel, IntegerDistribution
from codelength.integer.kernels import exact_kernel, kernel_name, require_exact_arithmetic
from codelength.integer.linear import IntegerLinear
from codelength.integer.mixture import IntegerMixture, LogisticTables
from codelength.integer.requantize import Requantize
from codelength.integer.tables import Lookup

__all__ = [
    "IntegerChannel",
    "IntegerDistribution",
    "IntegerLinear",
    "IntegerMixture",
    "LogisticTables",
    "Lookup",
    "Observations",
    "Requantize",
    "exact_kernel",
    "kernel_name",
    "observe",
    "require_exact_arithmetic",
]
