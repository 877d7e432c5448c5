"""All probes on one subject."""

from __future__ import annotations

from typing import Any

from codelength.audit.verdict import Verdict
from codelength.data.dataset import DataSet
from codelength.errors import CodelengthError


class AuditError(CodelengthError):
    """The audit could not run: the subject cannot be scored at all."""

    exit_code = 3


def audit(
    subject: Any,
    data: DataSet | None = None,
    *,
    split: str = "validation",
    budget: float = 60.0,
    seed: int = 0,
    fresh_process: bool = True,
) -> list[Verdict]:
    """Probe a model.

    Args:
        subject: A LikelihoodModel, a Run, FILE.py:NAME, or any object that `adapters.adapt` takes.
        data: Data it is meant for; without, the probes that need data are not applicable.
        split: Split that is looked at. The test split stays sealed unless it is named.
        budget: Seconds, roughly; the probes do less when it runs short and say so.
        seed: Seed of all inputs and noise.
        fresh_process: Whether runs and files are also loaded and scored in a new process.

    Returns:
        One verdict a probe, P1 to P10.

    Raises:
        AuditError: The subject cannot be scored.
    """
    raise NotImplementedError
