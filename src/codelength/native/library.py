"""Compile `kernels.c` once a machine, load it, and run its functions on several threads.

Element-wise formulas of many operations are bound by memory in PyTorch: each operation is a pass over tensors that leave
the cache. A C function makes one pass. Any C compiler will do ($CC, cc, gcc or clang); the library lies in the user's
cache folder under a name made of the source, the compiler and the processor. Where there is no compiler, callers use
their formula in PyTorch, which gives the same numbers up to round-off: `missing()` says why.

CODELENGTH_NATIVE=0 in the environment turns the kernels off.
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import torch

SOURCE = Path(__file__).with_name("kernels.c")
# No errno and no traps, or else loops stay scalar; NaN and infinity keep their meaning. Products and sums may be fused.
FLAGS = ("-std=c11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-shared", "-fPIC")
# For this processor, with its widest vectors; a compiler that knows no such option gets the next row.
MACHINE_FLAGS = (("-march=native", "-mprefer-vector-width=512"), ("-march=native",), ("-mcpu=native",), ())
COMPILE_SECONDS = 300
"""A compiler that takes longer is given up; on an idle machine it takes a few seconds."""
SMALLEST_SHARE = 16_384
"""Numbers a thread must have to itself to be worth starting."""


@cache
def _loaded() -> tuple[ctypes.CDLL | None, str]:
    """The library, and why there is none or where it is."""
    if os.environ.get("CODELENGTH_NATIVE", "1") == "0":
        return None, "CODELENGTH_NATIVE=0 turns compiled kernels off"
    compiler = next((path for name in _compilers() if (path := shutil.which(name))), None)
    if compiler is None:
        return None, "no C compiler (cc, gcc or clang) is installed"
    try:
        made = _cache_folder() / f"kernels-{_key(compiler)}.so"
        if not made.exists():
            _compile(compiler, made)
        return ctypes.CDLL(str(made)), str(made)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        return None, f"{compiler} made no library of {SOURCE.name}: {' '.join(str(said).split())[:300]}"


def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where there are none (`missing` says why). The first call may take some seconds."""
    return _loaded()[0]


def missing() -> str | None:
    """Why there are no compiled kernels; None where there are."""
    loaded, why = _loaded()
    return None if loaded is not None else why


def state() -> str:
    """One line on the kernels, for records of times."""
    why = missing()
    return "compiled" if why is None else f"in PyTorch: {why}"


def parallel(work: Callable[[int, int], int], count: int, numbers: int) -> None:
    """Call work(first, last) on shares of range(count), one a thread of PyTorch's.

    Args:
        work: A function of the library (they release Python's lock), 0 for success.
        count: Number of parts.
        numbers: Numbers to work on in all: few are done by one thread.

    Raises:
        MemoryError: `work` said so.
    """
    threads = max(1, min(torch.get_num_threads(), numbers // SMALLEST_SHARE, count))
    if threads == 1:
        results = [work(0, count)]
    else:
        edges = [count * t // threads for t in range(threads + 1)]
        pool = _pool()
        waiting = [pool.submit(work, *share) for share in itertools.pairwise(edges[1:])]
        results = [work(edges[0], edges[1]), *(future.result() for future in waiting)]
    if any(results):
        raise MemoryError("a compiled kernel found no memory for its working rows")


@cache
def _pool_of(process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="codelength")


def _pool() -> ThreadPoolExecutor:
    # Threads do not survive a fork: each process has its own.
    return _pool_of(os.getpid())


def _compilers() -> list[str]:
    return [name for name in (os.environ.get("CC"), "cc", "gcc", "clang") if name]


def _cache_folder() -> Path:
    import platformdirs

    folder = Path(platformdirs.user_cache_dir("codelength")) / "native"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _key(compiler: str) -> str:
    """Names the library: what it was made of, by what, for which processor."""
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True, timeout=COMPILE_SECONDS).stdout
    parts = [SOURCE.read_bytes(), version, repr((FLAGS, MACHINE_FLAGS)).encode(), _processor().encode()]
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:24]


def _processor() -> str:
    """The instructions the processor has: a home directory may be shared by several machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()} {platform.processor()} {features}"


def _compile(compiler: str, path: Path) -> None:
    """Write the library in one move, so that processes that start together do not read half of it."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        for extra in MACHINE_FLAGS:
            command = [compiler, *FLAGS, *extra, str(SOURCE), "-o", str(made), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_SECONDS)
            if done.returncode == 0:
                made.replace(path)
                return
        raise subprocess.CalledProcessError(done.returncode, command, stderr=done.stderr)
