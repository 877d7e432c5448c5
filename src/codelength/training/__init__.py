"""One trainer for every family of models."""

from codelength.training.engine import Execution
from codelength.training.objective import objective
from codelength.training.trainer import train

__all__ = ["Execution", "objective", "train"]
