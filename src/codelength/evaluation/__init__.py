"""Results and comparisons: records, multi-sample bounds, paired differences."""

from codelength.evaluation.compare import Comparison, compare
from codelength.evaluation.estimate import PerExample, per_example_nats
from codelength.evaluation.evaluate import evaluate, evaluate_run
from codelength.evaluation.fields import memorization_floor
from codelength.evaluation.record import Evaluation, EvaluationRecord, attach_coded, load_record

__all__ = [
    "Comparison",
    "Evaluation",
    "EvaluationRecord",
    "PerExample",
    "attach_coded",
    "compare",
    "evaluate",
    "evaluate_run",
    "load_record",
    "memorization_floor",
    "per_example_nats",
]
