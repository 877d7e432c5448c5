"""Every error codelength raises on purpose.

CodelengthError            one line: what was got, what was wanted, what to do     exit 1
├── UsageError             the call is wrong: unknown name, option or value        exit 2
├── DataError              the data cannot be used
│   ├── ChecksumError      a fetched file is not the published one
│   └── SpaceMismatchError the data do not fit the model's space
├── CheckpointError        weights or state cannot be loaded or saved
├── TrainingError          training cannot go on (NaN, infinity)
├── EvaluationError        a number cannot be computed honestly
│   └── NotComparableError two records measure different things
└── CodecError             a file cannot be coded or decoded
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CodelengthError(Exception):
    """Base of all errors that the command line prints as one line."""

    exit_code = 1


class UsageError(CodelengthError, ValueError):
    """The call is wrong: an unknown name, option or value."""

    exit_code = 2


class DataError(CodelengthError):
    """The data are missing, damaged or of an unusable form."""


class ChecksumError(DataError):
    """A fetched file differs from the published one."""


class SpaceMismatchError(DataError, ValueError):
    """The data do not fit the model's space."""


class CheckpointError(CodelengthError):
    """Weights or training state cannot be loaded or saved."""


class TrainingError(CodelengthError):
    """Training cannot go on."""


class EvaluationError(CodelengthError):
    """A number cannot be computed honestly."""


class NotComparableError(EvaluationError):
    """Two records measure different things."""


class CodecError(CodelengthError):
    """A file cannot be coded or decoded."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for an unknown name: it names the nearest known one and lists them all.

    >>> print(unknown_name("data set", "mnist5", ["mnist5k", "digits"]))
    unknown data set 'mnist5'; did you mean 'mnist5k'? Known: digits, mnist5k
    """
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else "."
    return UsageError(f"unknown {what} {name!r}{hint} Known: {', '.join(names)}")
