"""What a probe found: pass, fail, warn or not applicable, with the numbers that say so."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["pass", "fail", "warn", "not applicable"]

PROBE_NAMES: dict[str, str] = {
    "P1": "normalization",
    "P2": "causality",
    "P3": "batch invariance",
    "P4": "determinism",
    "P5": "units and constants",
    "P6": "evaluation loop",
    "P7": "rate agreement",
    "P8": "baselines",
    "P9": "data",
    "P10": "error bars",
}


@dataclass(frozen=True)
class Verdict:
    """The outcome of one probe.

    Args:
        probe: "P1" .. "P10".
        name: What it probes.
        status: "pass" only if it ran; "not applicable" if the model or the data lack what it needs.
        evidence: Numbers (and a few words) that the verdict rests on.
        message: One line: what was found.
        cause: What usually causes it; empty where nothing is wrong.
    """

    probe: str
    name: str
    status: Status
    evidence: dict[str, Any] = field(default_factory=dict)
    message: str = ""
    cause: str = ""

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain JSON values: infinities and NaN become strings."""
        return {
            "probe": self.probe,
            "name": self.name,
            "status": self.status,
            "evidence": {key: _plain(value) for key, value in self.evidence.items()},
            "message": self.message,
            "cause": self.cause,
        }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, (bool, str)) or value is None:
        return value
    if isinstance(value, int):
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else str(number)


class Findings:
    """What a probe collects while it runs: checks that passed, and the first and worst of those that did not."""

    def __init__(self, probe: str) -> None:
        self.probe = probe
        self.evidence: dict[str, Any] = {}
        self.ran: list[str] = []
        self.problems: list[tuple[Status, str, str]] = []
        self.notes: list[str] = []

    def passed(self, check: str) -> None:
        """A check ran and found nothing."""
        self.ran.append(check)

    def fail(self, message: str, cause: str) -> None:
        """A check ran and found a fault."""
        self.ran.append("failed")
        self.problems.append(("fail", message, cause))

    def warn(self, message: str, cause: str) -> None:
        """A check ran and found something doubtful."""
        self.ran.append("warned")
        self.problems.append(("warn", message, cause))

    def note(self, text: str) -> None:
        """Something that was not checked, or that the reader should know."""
        self.notes.append(text)

    @property
    def failed(self) -> bool:
        """Whether a check failed."""
        return any(status == "fail" for status, _, _ in self.problems)

    def verdict(self) -> Verdict:
        """The verdict: failures first, then warnings; "not applicable" where no check ran."""
        name = PROBE_NAMES[self.probe]
        ordered = sorted(self.problems, key=lambda problem: problem[0] != "fail")
        if ordered:
            messages = list(dict.fromkeys(message for _, message, _ in ordered))
            causes = list(dict.fromkeys(cause for _, _, cause in ordered if cause))
            return Verdict(self.probe, name, ordered[0][0], self.evidence, "; ".join(messages), "; ".join(causes))
        notes = "; ".join(dict.fromkeys(self.notes))
        if not self.ran:
            return Verdict(self.probe, name, "not applicable", self.evidence, notes or "nothing to check")
        checks = ", ".join(dict.fromkeys(self.ran))
        return Verdict(self.probe, name, "pass", self.evidence, checks + (f" ({notes})" if notes else ""))
