"""Load a model in a new process and score data there: what `python -m codelength.audit.fresh FOLDER` does."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from codelength.errors import EvaluationError
from codelength.run import load_tensors, save_tensors
from codelength.space import Space

TIMEOUT_SECONDS = 300


def fresh_scores(spec: str, space: Space, x: Tensor, seed: int, state: dict[str, Tensor]) -> Tensor:
    """Numbers of x from a model loaded in a new Python process, nats, as `p4_determinism.score` gives them.

    Args:
        spec: FILE.py:NAME or the folder of a run.
        space: Space of the data.
        x: Data.
        seed: Seed of bounds.
        state: Weights to load into the rebuilt model; none for those it comes with.

    Raises:
        EvaluationError: The process failed; its last line is given.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "x.npy", x.numpy(), allow_pickle=False)
        job = {"spec": spec, "space": space.to_json(), "seed": seed, "state": bool(state)}
        (folder / "job.json").write_text(json.dumps(job))
        if state:
            save_tensors(state, folder / "state.safetensors")
        done = subprocess.run(
            [sys.executable, "-m", "codelength.audit.fresh", str(folder)],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        if done.returncode != 0 or not (folder / "scores.npy").is_file():
            lines = done.stderr.strip().splitlines() or ["no output"]
            raise EvaluationError(f"a new process ended with code {done.returncode}: {lines[-1]}")
        return torch.from_numpy(np.load(folder / "scores.npy", allow_pickle=False))


def main(folder: Path) -> None:
    """Do the job written in `folder`."""
    from codelength.audit.p4_determinism import _module, score
    from codelength.audit.runner import open_subject
    from codelength.audit.subject import Probed

    job = json.loads((folder / "job.json").read_text())
    space = Space.from_json(job["space"])
    model, spec, _ = open_subject(job["spec"], space)
    subject = Probed.of(model, space, spec)
    if job["state"]:
        _module(subject).load_state_dict(load_tensors(folder / "state.safetensors"))
    x = torch.from_numpy(np.load(folder / "x.npy", allow_pickle=False))
    np.save(folder / "scores.npy", score(subject, subject.model, x, job["seed"]).numpy(), allow_pickle=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
