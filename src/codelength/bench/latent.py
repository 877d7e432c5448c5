"""The K-sample bound of a VAE beside pythae's, with the same weights."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from codelength.bench.checks import audited, is_passed
from codelength.bench.measure import Contest, timed
from codelength.bench.peers import PEERS, PeerProcess
from codelength.bench.training_steps import OurSteps
from codelength.data.dataset import DataSet, Split
from codelength.evaluation.bounds import bound_batch
from codelength.functional import log_mean_exp
from codelength.space import Space

if TYPE_CHECKING:
    from codelength.bench.tasks import Options

MODEL: dict[str, Any] = {"network": "dense", "latents": 50, "filters": 200, "blocks": 2}
"""The network of the IWAE paper, with SiLU for tanh."""
CHECKED = 100
"""Samples of the check, both from the same noise; pythae takes that many at a time."""
LARGEST_NATS = 1e-3
"""Of the difference between two bounds in float32, nats."""


def _blobs(count: int, size: int) -> np.ndarray:
    """Binary images of rectangles."""
    rng = np.random.default_rng(0)
    corner, side = rng.integers(0, size // 2, (2, count, 2)), rng.integers(2, size // 2, (2, count, 2))
    places = np.arange(size)
    inside = [(places >= corner[0][:, i, None]) & (places < (corner[0] + side[0])[:, i, None]) for i in (0, 1)]
    x = inside[0][:, :, None] & inside[1][:, None, :]
    return (x ^ (rng.random(x.shape) < 0.02)).astype(np.uint8)[:, None]


def bound(options: Options) -> Contest:
    """16 binary images 28x28, K = 1,000."""
    size, count, samples = (8, 3, 200) if options.small else (28, 16, 1000)
    x = _blobs(256, size)
    data = DataSet("rectangles", Space.image(1, size, size, 2), {"train": Split(x[64:]), "validation": Split(x[:64])})
    trained = OurSteps("vae", MODEL, data, 64, ema_decay=None)
    trained.run(50 if options.small else 300)  # untrained, q would be blind to x
    model: Any = trained.loop.model.eval()
    trained.close()
    scored = torch.from_numpy(x[:count]).long()
    noise = torch.randn(CHECKED, count, MODEL["latents"], generator=torch.Generator().manual_seed(1))
    weights = {
        f"{part}_{i}": tensor.detach().numpy()
        for part in ("encoder", "decoder")
        for i, tensor in enumerate(getattr(model, part).parameters())
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vae.npz"
        np.savez(file, x=x[:count], noise=noise.numpy(), **weights)
        peer = PeerProcess(
            PEERS["pythae"], options.pip_arguments, samples=samples, threads=options.threads, file=str(file)
        )
    with torch.no_grad():
        ours = model.log_weights(scored, CHECKED, torch.Generator().manual_seed(1)).total
    gap = abs(float(log_mean_exp(ours.double()).mean()) - peer.report["mean_log_prob"])
    audit = audited(model, data, options.audit_seconds)
    examples = np.arange(count)

    def work() -> None:
        with torch.inference_mode():
            bound_batch(model, scored, examples, samples=samples, seed=0)

    return Contest(
        what=f"bounds of {count} binary images {size}x{size} with {samples} samples each, VAE {MODEL}, float32",
        ours=lambda: timed(work),
        theirs=peer.run,
        theirs_name=peer.peer.label,
        parity={"gap_of_mean_nats": gap, "mean_nats": peer.report["mean_log_prob"], "audit": audit},
        passed=gap < LARGEST_NATS and is_passed(audit),
        wanted=1.5,
        close=peer.close,
    )


PREPARE = {"vae-bound": bound}
