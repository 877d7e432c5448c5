"""Where a number comes from: the code, the libraries, the exact data."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from functools import cache
from pathlib import Path

import numpy as np

import codelength
from codelength.data.dataset import Split


@cache
def git_commit() -> str | None:
    """Commit of the checkout this package lies in, with "-dirty" where its sources are edited; None outside of one."""
    package = Path(codelength.__file__).parent
    top = _git(package, "rev-parse", "--show-toplevel")
    # An installed package can lie inside someone else's checkout, such as a virtual environment in their project.
    if top is None or Path(top) / "src" / "codelength" != package:
        return None
    commit = _git(package, "rev-parse", "HEAD")
    edited = _git(package, "status", "--porcelain", "--untracked-files=no", "--", ".")
    return commit and commit + ("-dirty" if edited else "")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def library_versions() -> dict[str, str]:
    """Versions of what computes the number.

    >>> sorted(library_versions())
    ['codelength', 'numpy', 'python', 'torch']
    """
    import torch

    return {
        "codelength": codelength.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": str(torch.__version__),
    }


def scored_sha256(split: Split, expected: bool) -> str:
    """Fingerprint of the numbers that were scored: the integers, or the intensities of an expectation over them."""
    if not expected:
        return split.fingerprint()
    assert split.intensity is not None
    digest = hashlib.sha256(f"intensity {tuple(split.intensity.shape)}".encode())
    for start in range(0, len(split.intensity), 1024):
        digest.update(np.ascontiguousarray(split.intensity[start : start + 1024], dtype="<f4").tobytes())
    return digest.hexdigest()
