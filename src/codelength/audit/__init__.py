"""Probes of honesty: whether a model's number can be believed.

P1 normalization, P2 causality, P3 batch invariance, P4 determinism, P5 units and constants, P6 evaluation loop,
P7 rate agreement, P8 baselines, P9 data, P10 error bars.
"""

from codelength.audit.runner import AuditError, audit
from codelength.audit.verdict import PROBE_NAMES, Verdict

__all__ = ["PROBE_NAMES", "AuditError", "Verdict", "audit"]
