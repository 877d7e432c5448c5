"""Others' libraries from PyPI, each in an environment that the benchmark makes, and their tasks in processes of their own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codelength.bench.measure import Times
from codelength.errors import CodelengthError

WORKERS = Path(__file__).with_name("workers")


class PeerError(CodelengthError):
    """A peer's environment could not be made, or its process ended."""


@dataclass(frozen=True)
class Peer:
    """A library to compare with.

    Args:
        name: Its name on PyPI.
        version: The version that is installed.
        worker: File in `workers/` that does its tasks.
        has_dependencies: Whether pip is to install what our packages lack of its requirements.
        besides: Further packages that it needs and does not name.
    """

    name: str
    version: str
    worker: str
    has_dependencies: bool = False
    besides: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}"


PEERS = {
    "constriction": Peer("constriction", "0.5.0", "constriction_tables.py"),
    "nflows": Peer("nflows", "0.14", "nflows_spline.py"),
    "normflows": Peer("normflows", "1.7.3", "normflows_glow.py"),
    "pythae": Peer("pythae", "0.1.2", "pythae_vae.py", has_dependencies=True),
    "scikit-learn": Peer("scikit-learn", "1.9.1", "sklearn_gaussian.py"),
    "torchac": Peer("torchac", "0.9.3", "torchac_tables.py", besides=("ninja",)),
    "transformers": Peer("transformers", "5.24.0", "transformers_gpt2.py", has_dependencies=True),
    "zuko": Peer("zuko", "1.6.0", "zuko_maf.py"),
}


def environment(peer: Peer, pip_arguments: Sequence[str] = ()) -> Path:
    """The interpreter of the peer's environment, which is made if it is not there.

    PyTorch and NumPy are those of this process, so that a difference is the library's: the environment sees our
    site-packages behind its own.

    Raises:
        PeerError: pip failed.
    """
    import platformdirs

    shared = sysconfig.get_paths()["purelib"]
    mark = hashlib.sha256(f"{peer.label} {sys.version} {shared}".encode()).hexdigest()[:12]
    folder = Path(platformdirs.user_cache_dir("codelength")) / "bench" / f"{peer.name}-{mark}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ready = folder / "ready"
    if not ready.exists():
        venv.create(folder, with_pip=True, clear=True)
        own = subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"], capture_output=True, text=True
        )
        (Path(own.stdout.strip()) / "shared.pth").write_text(shared + "\n")
        install = [str(python), "-m", "pip", "install", *pip_arguments, f"{peer.name}=={peer.version}", *peer.besides]
        commands = [[*install, "--ignore-installed", "--no-deps"], *[install] * peer.has_dependencies]
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                said = " ".join(done.stderr.split())[-400:]
                raise PeerError(f"no environment for {peer.label}: {said}. Give pip options by --pip-args")
        ready.touch()
    return python


class PeerProcess:
    """A peer at work.

    Args:
        peer: Which.
        pip_arguments: Options of pip, where the environment is yet to be made.
        options: Of the task: the worker's `prepare` gets them, `threads` among them.

    Raises:
        PeerError: It cannot be prepared.
    """

    def __init__(self, peer: Peer, pip_arguments: Sequence[str] = (), **options: Any) -> None:
        self.peer = peer
        python = environment(peer, pip_arguments)
        threads = str(options["threads"])
        self._process = subprocess.Popen(
            [python, WORKERS / peer.worker],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONPATH": ""},
        )
        self.report = self._ask(do="prepare", **options)

    def run(self) -> Times:
        """Run the task once."""
        return self._ask(do="run")

    def close(self) -> None:
        """End the process."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.wait()
        process.stdout.close()

    def _ask(self, **request: Any) -> dict[str, Any]:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # a process that has ended is found by its silence
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            self.close()
            raise PeerError(f"{self.peer.label}: its process ended with code {process.returncode}; its words are above")
        answer: dict[str, Any] = json.loads(line)
        return answer
