"""Which adapter fits an object."""

from __future__ import annotations

from typing import Any

from torch.distributions import Distribution

from codelength.adapters.foreign import ForeignModel, declared_space
from codelength.models.base import LikelihoodModel
from codelength.space import Space


def adapt(subject: Any, space: Space | None = None) -> LikelihoodModel:
    """A foreign object as a model of this package.

    Args:
        subject: A LikelihoodModel (returned as it is), a flow of zuko, nflows or normflows, a torch distribution, a
            scikit-learn estimator with score_samples, or any object with members that `ForeignModel` knows.
        space: Space of the data; needed where the object declares none.

    Raises:
        UsageError: It has nothing that scores data, or nothing says what a datum is.
    """
    if isinstance(subject, LikelihoodModel):
        return subject
    library = type(subject).__module__.partition(".")[0]
    bases = {base.__module__.partition(".")[0] for base in type(subject).__mro__}
    if isinstance(subject, Distribution):
        from codelength.adapters.distributions import from_distribution

        return from_distribution(subject, declared_space(subject, space))
    if library in ("zuko", "nflows", "normflows"):
        from codelength.adapters import flows

        return getattr(flows, f"from_{library}")(subject, declared_space(subject, space))
    if "sklearn" in bases and hasattr(subject, "score_samples"):
        from codelength.adapters.estimators import from_estimator

        return from_estimator(subject, declared_space(subject, space))
    return ForeignModel(subject, declared_space(subject, space))
