"""P(x | label) against P(x): what is told for free has to be paid for before the two are compared.

The code length of a conditional model leaves the label out, which a decoder must have. −log P(x | y) − log P(y) is the length of
a code of x and y together, and bounds −log P(x) from above, because P(x, y) is no more than P(x). With P(y) uniform over the
classes the label costs log2 C bits a datum. Charged so, a record is a bound that any record of the same data can stand beside:
where it is the shorter one, the conditional model is the better compressor; where it is the longer one, nothing is shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from codelength.errors import NotComparableError
from codelength.evaluation.record import Evaluation, EvaluationRecord
from codelength.models.base import LikelihoodModel
from codelength.units import bits_per_dim


def condition_bits(model: LikelihoodModel) -> float | None:
    """Bits a datum that a model's conditions cost with all classes equally likely; None where it has none.

    Conditions without classes (features, text) have no such price: then None too, and they cannot be charged.
    """
    classes = [model.space.conditions.get(name) for name in model.conditioning]
    if not classes or None in classes:
        return None
    return math.fsum(math.log2(count) for count in classes if count)


def differently_told(records: Sequence[EvaluationRecord]) -> bool:
    """Whether some models were told what others were not."""
    return len({tuple(sorted(record.conditioning)) for record in records}) > 1


def charge_conditions(evaluation: Evaluation) -> Evaluation:
    """The evaluation with its conditions paid for: a bound on the code length of the data alone.

    An unconditional one stays as it is.

    Raises:
        NotComparableError: The record does not say what the conditions cost.
    """
    record = evaluation.record
    if not record.conditioning:
        return evaluation
    if record.condition_bits is None:
        raise NotComparableError(
            f"{record.model} is conditioned on {', '.join(record.conditioning)}, but its record does not say what that "
            "costs; evaluate it again"
        )
    nats = record.condition_bits * math.log(2)
    price = bits_per_dim(nats, record.num_dims)
    elbo = record.elbo_bits_per_dim
    charged = record.model_copy(
        update={
            "conditioning": [],
            "conditions_charged": record.conditioning,
            "kind": "estimate" if record.kind == "estimate" else "bound",
            "nats_per_example": record.nats_per_example + nats,
            "bits_per_dim": record.bits_per_dim + price,
            "elbo_bits_per_dim": None if elbo is None else elbo + price,
        }
    )
    curve = {k: value + nats for k, value in evaluation.curve.items()}
    return replace(
        evaluation,
        record=charged,
        per_example=evaluation.per_example + nats,
        elbo=None if evaluation.elbo is None else evaluation.elbo + nats,
        curve=curve,
    )


def charge_where_needed(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """All with their conditions charged if some models were told what others were not; else as they are."""
    if not differently_told([evaluation.record for evaluation in evaluations]):
        return list(evaluations)
    return [charge_conditions(evaluation) for evaluation in evaluations]
