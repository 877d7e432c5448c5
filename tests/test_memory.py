"""Freed memory is kept by the command line, and not where the user has set up malloc."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from codelength.memory import keep_freed_memory
kept = keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(3 << 17)
        a, b = np.ones(3 << 17), np.ones(3 << 18)
        del a, b
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(int(kept), faults())
"""


def run(**environment: str) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(os, "confstr_names"), reason="about glibc")
def test_kept_memory_is_not_faulted_in_again():
    if "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""):
        pytest.skip("about glibc")
    kept, faults = run()
    assert kept == 1
    assert faults < 100
    kept, faults = run(MALLOC_TRIM_THRESHOLD_="131072")  # control, and the user's setting goes first
    assert kept == 0
    assert faults > 5000
    assert run(GLIBC_TUNABLES="glibc.malloc.check=0")[0] == 0
