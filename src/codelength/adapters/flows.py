"""Flows of zuko, nflows and normflows as models of integers."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from codelength.adapters.density import Backend, Preprocessing, dequantized
from codelength.adapters.extras import require
from codelength.errors import UsageError
from codelength.space import Space
from codelength.transforms import Dequantized


class ZukoBackend(Backend):
    """A `zuko` flow: calling it gives a torch distribution."""

    def __init__(self, flow: Any) -> None:
        super().__init__()
        self.flow = flow

    def log_density(self, z: Tensor) -> Tensor:
        return self.flow().log_prob(z)

    def draw(self, n: int) -> Tensor:
        return self.flow().sample((n,))


class NflowsBackend(Backend):
    """An `nflows` Flow."""

    def __init__(self, flow: Any) -> None:
        super().__init__()
        self.flow = flow

    def log_density(self, z: Tensor) -> Tensor:
        return self.flow.log_prob(z)

    def draw(self, n: int) -> Tensor:
        return self.flow.sample(n)


class NormflowsBackend(Backend):
    """A `normflows` NormalizingFlow."""

    def __init__(self, flow: Any) -> None:
        super().__init__()
        self.flow = flow

    def log_density(self, z: Tensor) -> Tensor:
        return self.flow.log_prob(z)

    def draw(self, n: int) -> Tensor:
        return self.flow.sample(n)[0]


def from_zuko(flow: Any, space: Space, *, preprocessing: Preprocessing = "center") -> Dequantized:
    """A zuko flow over vectors of space.num_dims numbers, dequantized uniformly.

    Args:
        flow: Such as `zuko.flows.NSF(features=space.num_dims)`.
        space: What the data are.
        preprocessing: From the levels to the flow's numbers; see `make_preprocessing`. "center" suits NSF, whose splines
            are the identity beyond ±5.

    Raises:
        UsageError: zuko is not installed, or `flow` is none of its flows.
    """
    _expect(flow, require("zuko.lazy").LazyDistribution, "zuko flow")
    return dequantized(ZukoBackend(flow), space, preprocessing)


def from_nflows(flow: Any, space: Space, *, preprocessing: Preprocessing = "center") -> Dequantized:
    """An nflows Flow over vectors of space.num_dims numbers, dequantized uniformly. Arguments as for `from_zuko`."""
    _expect(flow, require("nflows.distributions").Distribution, "nflows distribution")
    return dequantized(NflowsBackend(flow), space, preprocessing)


def from_normflows(flow: Any, space: Space, *, preprocessing: Preprocessing = "center") -> Dequantized:
    """A normflows NormalizingFlow over vectors of space.num_dims numbers, dequantized. Arguments as for `from_zuko`."""
    _expect(flow, require("normflows").NormalizingFlow, "normflows NormalizingFlow")
    return dequantized(NormflowsBackend(flow), space, preprocessing)


def _expect(flow: Any, wanted: type, what: str) -> None:
    if not isinstance(flow, wanted):
        raise UsageError(f"got a {type(flow).__name__}; wanted a {what}")
