"""Steps between reals and integers: dequantization gives a bound on the mass, discretization the exact mass."""

from codelength.transforms.dequantization.builder import uniformly_dequantized
from codelength.transforms.dequantization.dequantized import Dequantized, floor_to_space
from codelength.transforms.dequantization.dequantizer import Dequantizer
from codelength.transforms.dequantization.discretized import Discretized
from codelength.transforms.dequantization.uniform import UniformDequantization
from codelength.transforms.dequantization.variational import VariationalDequantization

__all__ = [
    "Dequantized",
    "Dequantizer",
    "Discretized",
    "UniformDequantization",
    "VariationalDequantization",
    "floor_to_space",
    "uniformly_dequantized",
]
