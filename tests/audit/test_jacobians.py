"""The audit differentiates the transforms of flows, trained ones too, and undoes them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from codelength import Space
from codelength.audit import audit
from codelength.audit.verdict import Verdict
from codelength.models.flows.base import Flow
from codelength.models.registry import build_model
from codelength.transforms import (
    ActNorm,
    Compose,
    Dequantized,
    Flatten,
    Logit,
    Rescale,
    Transform,
    UniformDequantization,
)

SPACE = Space.image(1, 4, 4, 256)


def p5(model: Any, budget: float = 2) -> Verdict:
    return next(v for v in audit(model, None, budget=budget) if v.probe == "P5")


class Broken(ActNorm):
    """An ActNorm whose log-determinant, or whose inverse, is off."""

    def __init__(self, channels: int, *, nats: float = 0.0, shift: float = 0.0) -> None:
        super().__init__(channels)
        self.nats, self.shift = nats, shift

    def forward(self, x: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        z, log_det = super().forward(x)
        return z, log_det + self.nats

    def inverse(self, z: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        x, log_det = super().inverse(z)
        return x + self.shift, log_det


def with_transform(transform: Transform, space: Space = SPACE) -> Dequantized:
    flow = Compose([Rescale(space.levels), Logit(), transform, Flatten(space.sizes)])
    margin = Logit().margin * space.levels
    return Dequantized(Flow(space, flow, (-margin, space.levels + margin)), UniformDequantization(space.levels)).eval()


def trained(system: str, space: Space, **options: Any) -> Any:
    torch.manual_seed(0)
    model = build_model(system, space, **options)
    x = torch.randint(100, 140, (64, *space.sizes), generator=torch.Generator().manual_seed(0))
    conditions = {name: torch.arange(64) % space.conditions[name] for name in model.conditioning}
    model.initialize(x, torch.Generator().manual_seed(0), **conditions)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(20):
        loss = -model.log_weights(x, 1, torch.Generator().manual_seed(step), **conditions).total.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize(
    ("system", "options"),
    [
        ("glow", {"scales": 1, "depth": 2, "filters": 8, "class_conditional": True}),
        ("flow_pp", {"couplings": [1, 1, 1], "filters": 4, "blocks": 1, "components": 2, "dequantization": "uniform"}),
        ("maf", {"layers": 2, "hidden": [16], "map": "spline"}),
    ],
)
def test_trained_flows_report_their_errors(system: str, options: dict[str, Any]) -> None:
    space = Space.image(1, 4, 4, 256, conditions={"label": 2}) if "class_conditional" in options else SPACE
    verdict = p5(trained(system, space, **options))
    assert verdict.status == "pass", verdict
    assert verdict.evidence["log_det_max_error"] < 1e-6
    assert verdict.evidence["inverse_max_error_float32"] < 1e-2
    assert verdict.evidence["inverse_max_error_float64"] < 1e-8


def test_a_log_det_off_by_a_little_is_found() -> None:
    assert "differs from automatic differentiation by 0.01" in p5(with_transform(Broken(1, nats=0.01))).message
    assert p5(with_transform(Broken(1))).status == "pass"


def test_an_inverse_that_misses_is_found() -> None:
    verdict = p5(with_transform(Broken(1, shift=0.01)))
    assert verdict.status == "fail"
    assert "inverse misses its input" in verdict.message


def test_large_jacobians_are_differentiated_where_time_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = Space.image(1, 18, 18, 256)
    verdict = p5(with_transform(Broken(1, nats=0.01), wide), budget=20)
    assert verdict.evidence["log_det_max_error"] == pytest.approx(0.01, rel=1e-3)
    monkeypatch.setattr("codelength.audit.context.Context.seconds", lambda self, share: 0.0)
    assert "not differentiated" in p5(with_transform(ActNorm(1), wide)).message
