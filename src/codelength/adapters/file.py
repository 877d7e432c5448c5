"""Models out of a user's own file: `FILE.py:NAME`, a callable without arguments that returns an object."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from codelength.adapters.dispatch import adapt
from codelength.adapters.foreign import ForeignModel
from codelength.errors import CodelengthError, UsageError, unknown_name
from codelength.models.base import LikelihoodModel
from codelength.space import Space

_counter = itertools.count()


def is_file_spec(spec: str) -> bool:
    """Whether `spec` has the form FILE.py:NAME.

    >>> is_file_spec("models/mine.py:make"), is_file_spec("runs/made")
    (True, False)
    """
    path, colon, name = spec.rpartition(":")
    return bool(colon) and path.endswith(".py") and name.isidentifier()


def load_callable(spec: str) -> Callable[[], Any]:
    """The callable named by FILE.py:NAME; the file is executed anew at each call.

    Raises:
        UsageError: The spec has another form, the file or name does not exist, or the file raises.
    """
    path_text, _, name = spec.rpartition(":")
    path = Path(path_text)
    if not is_file_spec(spec):
        raise UsageError(f"{spec!r} is not of the form FILE.py:NAME; give the file and the callable in it")
    if not path.is_file():
        raise UsageError(f"{path} does not exist; give the path of a Python file")
    module_name = f"codelength_subject_{next(_counter)}_{path.stem}"
    module_spec = importlib.util.spec_from_file_location(module_name, path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_name] = module  # dataclasses look their module up
    sys.path.insert(0, str(path.resolve().parent))
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise UsageError(f"{path} raised {type(error).__name__}: {error}; run it with Python to see where") from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    found = getattr(module, name, None)
    if found is None:
        raise unknown_name(f"name in {path}:", name, [n for n in vars(module) if not n.startswith("_")])
    if not callable(found):
        raise UsageError(f"{spec}: {name} is a {type(found).__name__}; wanted a callable without arguments")
    callable_: Callable[[], Any] = found
    return callable_


def load_subject(spec: str, space: Space | None = None) -> LikelihoodModel:
    """The model that FILE.py:NAME returns, behind the package's interface.

    Args:
        spec: FILE.py:NAME.
        space: Space of the data it is for; needed where the object declares no shape and levels.

    Returns:
        A `ForeignModel`, an adapter of a known library, or the object itself if it is a LikelihoodModel. Nothing of it is
        called yet, and it keeps the mode (training or evaluation) in which it was returned.

    Raises:
        UsageError: The file, the name or the object cannot be used.
    """
    function = load_callable(spec)
    try:
        subject = function()
    except CodelengthError:
        raise
    except Exception as error:
        raise UsageError(
            f"{spec} raised {type(error).__name__}: {error}; it must be callable without arguments"
        ) from error
    model = adapt(subject, space)
    if isinstance(model, ForeignModel):
        model.spec = spec
    return model
