"""P5: units and constants: nats of the whole datum, the bins' width, every Jacobian, log K."""

from __future__ import annotations

from codelength.audit.bound_constants import check_bound
from codelength.audit.bound_totals import check_bound_constant
from codelength.audit.context import Context
from codelength.audit.density_constants import check_spikes, check_support
from codelength.audit.density_totals import density_total
from codelength.audit.jacobians import check_inverses, check_jacobians
from codelength.audit.p1_normalization import judge_density
from codelength.audit.p6_loop import check_loop_unit
from codelength.audit.resonance import check_against_conditionals, check_total
from codelength.audit.verdict import Findings, Verdict


def probe(context: Context) -> Verdict:
    """Whichever of the checks the model's members allow."""
    found, subject = Findings("P5"), context.subject
    if subject.has_log_prob:
        check_against_conditionals(context, found)
        check_total(context, found)
    if subject.has_density:
        total = density_total(context)
        found.evidence |= total.evidence("density")
        judge_density(context, found, total)
        check_spikes(context, found)
        check_support(context, found)
        check_jacobians(context, found)
        check_inverses(context, found)
    if subject.has_bound and subject.is_mass:
        check_bound(context, found)
        check_bound_constant(context, found)
    if subject.answers("evaluate"):
        check_loop_unit(context, found)
    return found.verdict()
