"""Memory that was freed is kept for the next tensor.

glibc gives freed memory back to the system and asks for it again: every step then faults in its tensors page by page. The command line asks it to keep what the process needed once; the peak stays what it was.
"""

from __future__ import annotations

import os
import sys

# Of malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
LARGEST_TRIM, LARGEST_MMAP = 2**31 - 1, 2**25
"""Bytes: the most that glibc takes. Tensors above 32 MiB come from the system as ever."""


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed memory, unless the user has set it up; whether it does.

    It acts on the whole process, so the command line calls it and the library does not. Setting any of MALLOC_TRIM_THRESHOLD_,
    MALLOC_MMAP_THRESHOLD_ or malloc's GLIBC_TUNABLES turns it off.
    """
    environment = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
    if (
        sys.platform != "linux"
        or any(name in os.environ for name in environment)
        or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    ):
        return False
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    return bool(mallopt(TRIM_THRESHOLD, LARGEST_TRIM)) and bool(mallopt(MMAP_THRESHOLD, LARGEST_MMAP))
