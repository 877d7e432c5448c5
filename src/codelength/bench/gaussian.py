"""The Gaussian baseline, fitted and scored, beside scikit-learn's mixture of one Gaussian."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from codelength.bench.checks import audited, is_passed
from codelength.bench.measure import Contest, timed
from codelength.bench.peers import PEERS, PeerProcess
from codelength.bench.training_steps import images
from codelength.models.registry import build_model

if TYPE_CHECKING:
    from codelength.bench.tasks import Options

LARGEST_NATS = 1e-6
"""Of the difference between two log densities in float64, nats a dim."""


def prepare(options: Options) -> Contest:
    """4,000 images of 16x16x3 fitted, 1,000 scored."""
    size, count = (4, 400) if options.small else (16, 4000)
    data = images(count * 4 // 3, size)
    train = torch.from_numpy(np.asarray(data.split("train").x)).long()
    y = torch.from_numpy(np.asarray(data.split("validation").x)).double()
    y = y[:1000] + torch.rand(y[:1000].shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def fit_and_score() -> tuple[Any, torch.Tensor]:
        model: Any = build_model("gaussian", data.space)
        model.fit(train)
        with torch.inference_mode():
            return model, model.density.log_prob(y)

    model, scores = fit_and_score()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "gaussian.npz"
        # x + U[0, 1) has the mean of x + 1/2.
        np.savez(file, fitted=train.flatten(1).double() + 0.5, scored=y.flatten(1))
        peer = PeerProcess(
            PEERS["scikit-learn"],
            options.pip_arguments,
            variance=1 / 12 + model.density.ridge,
            threads=options.threads,
            file=str(file),
        )
        with np.load(file) as stored:
            theirs = torch.from_numpy(stored["scores"])
    gap = float((scores - theirs).abs().max()) / data.space.num_dims
    audit = audited(model, data, options.audit_seconds)
    return Contest(
        what=f"a full Gaussian fitted to {len(train)} images {size}x{size}x3, {len(y)} scored",
        ours=lambda: timed(fit_and_score),
        theirs=peer.run,
        theirs_name=peer.peer.label,
        parity={"largest_gap_nats_per_dim": gap, "audit": audit},
        passed=gap < LARGEST_NATS and is_passed(audit),
        wanted=1.0,
        close=peer.close,
    )


PREPARE = {"gaussian-fit": prepare}
