"""Foreign models behind the package's interface: users' own files, zuko, nflows, normflows, torch, scikit-learn."""

from codelength.adapters.density import ForeignDensity
from codelength.adapters.dispatch import adapt
from codelength.adapters.distributions import from_distribution, from_module
from codelength.adapters.estimators import from_estimator
from codelength.adapters.file import is_file_spec, load_subject
from codelength.adapters.flows import from_nflows, from_normflows, from_zuko
from codelength.adapters.foreign import ForeignModel

__all__ = [
    "ForeignDensity",
    "ForeignModel",
    "adapt",
    "from_distribution",
    "from_estimator",
    "from_module",
    "from_nflows",
    "from_normflows",
    "from_zuko",
    "is_file_spec",
    "load_subject",
]
