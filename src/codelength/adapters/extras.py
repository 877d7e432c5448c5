"""Optional libraries: imported where they are used, with a message that names the extra."""

from __future__ import annotations

import importlib
from types import ModuleType

from codelength.errors import UsageError


def require(module: str) -> ModuleType:
    """Import an optional library, or a module of it.

    Raises:
        UsageError: It is not installed; the message names the extra that brings it.
    """
    library = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(f"{library} is not installed; install it with `pip install codelength[{library}]`") from error
