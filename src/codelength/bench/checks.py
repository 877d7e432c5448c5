"""What must hold before a time counts: the audit of the model that is trained, and equal scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codelength.data.dataset import DataSet


def audited(model: Any, data: DataSet, seconds: float) -> dict[str, Any]:
    """Messages of the probes that failed, by probe, or {"passed": how many passed} if none did."""
    from codelength.audit import audit

    verdicts = audit(model.eval(), data, budget=seconds, fresh_process=False)
    return {v.probe: v.message for v in verdicts if v.status == "fail"} or {
        "passed": sum(v.status == "pass" for v in verdicts)
    }


def is_passed(audit: Mapping[str, Any]) -> bool:
    """Whether no probe failed, of what `audited` gives."""
    return "passed" in audit
