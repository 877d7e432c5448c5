"""Training steps: the trainer's own against a network written plainly, or against a peer's."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from codelength.bench.measure import Contest, timed
from codelength.bench.operations import without_kernels
from codelength.bench.peers import PEERS, PeerProcess
from codelength.bench.plain_pixelcnn_pp import PlainPixelCNNPP
from codelength.data.dataset import DataSet, Split
from codelength.models.base import num_parameters
from codelength.models.registry import build_model
from codelength.recipe import parse_recipe
from codelength.space import Space
from codelength.training.loop import Loop
from codelength.training.objective import objective
from codelength.training.progress import Talk

if TYPE_CHECKING:
    from codelength.bench.tasks import Options

PIXELCNN_PP: dict[str, Any] = {"filters": 32, "blocks": 1, "stages": 3, "components": 10, "dropout": 0.5}
GLOW = {"scales": 2, "depth": 4, "filters": 64}
LARGEST_BITS = 1e-3
"""Of the difference between two ways of scoring an image, bits/dim."""


def images(count: int, size: int = 32) -> DataSet:
    """Smooth random images: the time of a step does not depend on the pixels, an audit's baselines do."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 3, size // 4, size // 4)).repeat(4, axis=2).repeat(4, axis=3)
    x = (0.8 * coarse + 0.2 * rng.integers(0, 256, (count, 3, size, size))).astype(np.uint8)
    third = max(count // 4, 1)
    splits = {"train": Split(x[third:]), "validation": Split(x[:third])}
    return DataSet("smooth-noise", Space.image(3, size, size), splits)


class OurSteps:
    """The trainer, step by step.

    Args:
        system: The model.
        options: Its options.
        data: What it trains on.
        batch: Batch size.
        training: Of the recipe, besides sizes.
    """

    def __init__(self, system: str, options: dict[str, Any], data: DataSet, batch: int, **training: Any) -> None:
        recipe = parse_recipe(
            {
                "name": "bench",
                "data": {"name": data.name},
                "model": {"system": system, "options": options},
                "training": {"steps": 10**6, "batch_size": batch, "ema_decay": 0.9995, "clip_norm": 1.0, **training},
            }
        )
        self._folder = tempfile.TemporaryDirectory()
        held = ("validation", data.split("validation"))
        self.loop = Loop(recipe, data, Path(self._folder.name), torch.device("cpu"), Talk(10**6, False), held)
        self.loop.begin(None)

    def run(self, steps: int) -> None:
        """Some steps."""
        for _ in range(steps):
            self.loop.step += 1
            self.loop._train_step()

    def close(self) -> None:
        """Forget it."""
        with closing(self.loop):
            self._folder.cleanup()


class PlainSteps:
    """A training loop as one writes it: Adam, clipping and a weight average, one tensor after the other."""

    def __init__(self, model: PlainPixelCNNPP, data: DataSet, batch: int) -> None:
        self.model = model.train()
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.average = [p.detach().clone() for p in self.parameters]
        self.optimizer = torch.optim.Adam(self.parameters, lr=1e-3, foreach=False)
        self.x, self.batch = torch.from_numpy(np.asarray(data.split("train").x)), batch

    def run(self, steps: int) -> None:
        """Some steps."""
        for _ in range(steps):
            x = self.x[torch.randint(len(self.x), (self.batch,))].long()
            loss = -self.model(x).mean()
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=False)
            self.optimizer.step()
            with torch.no_grad():
                for average, p in zip(self.average, self.parameters, strict=True):
                    average.mul_(0.9995).add_(p, alpha=0.0005)
            assert torch.isfinite(loss)


AUDITED = 8
"""Side of the images of the audit."""


def audited(system: str, options: dict[str, Any], model: Any, seconds: float) -> dict[str, Any]:
    """Verdicts of the audit that failed, or how many passed; the weights on smaller images, which takes seconds.

    The networks are convolutional: their weights do not know the size. A matrix of dependencies of 3,072 dims, each with a
    table of 256 levels, would take longer than the benchmark.
    """
    from codelength.audit import audit

    small: Any = build_model(system, Space.image(3, AUDITED, AUDITED), **options)
    small.load_state_dict(model.state_dict())
    verdicts = audit(small.eval(), images(64, AUDITED), budget=seconds, fresh_process=False)
    counts = {"passed": sum(v.status == "pass" for v in verdicts), "side": AUDITED}
    return {v.probe: v.message for v in verdicts if v.status == "fail"} or counts


def gap_in_bits(ours: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Largest difference of two scorings, bits/dim."""
    with torch.no_grad():
        return float((ours(x).double() - theirs(x).double()).abs().max()) / float(np.log(2)) / x[0].numel()


def pixelcnn_pp(options: Options) -> Contest:
    """PixelCNN++ of 578,760 parameters, batches of 16 images 32x32x3."""
    model_options = {**PIXELCNN_PP, "filters": 8} if options.small else PIXELCNN_PP
    batch, size, steps = (2, 8, 1) if options.small else (16, 32, 2)
    data = images(64, size)
    ours = OurSteps("pixelcnn_pp", model_options, data, batch, precision="bf16", channels_last=True)
    model: Any = ours.loop.model
    plain = PlainPixelCNNPP(model, model_options["components"])
    held = torch.from_numpy(np.asarray(data.split("validation").x)[:4]).long()
    # Parity is that of the equations, in float32; bf16 is a choice of training that leaves the evaluated number alone.
    gap = gap_in_bits(model.eval().log_prob, plain.eval(), held)
    model.train()
    theirs = PlainSteps(plain, data, batch)
    audit = audited("pixelcnn_pp", model_options, model, options.audit_seconds)
    bf16 = _bf16_gap(model, held)
    return Contest(
        what=f"{steps} training steps of PixelCNN++ {model_options}, batch {batch} of {size}x{size}x3; ours in bf16",
        ours=lambda: timed(lambda: ours.run(steps)),
        theirs=lambda: timed(lambda: theirs.run(steps)),
        theirs_name="the network written plainly, float32, eager",
        parity={"largest_gap_bits_per_dim": gap, "audit": audit, "bf16_gap_bits_per_dim": bf16},
        passed=gap < LARGEST_BITS and "passed" in audit,
        wanted=2.5,
        facts={"parameters": num_parameters(model), "images_per_run": steps * batch},
        close=ours.close,
    )


def _moved(model: Any) -> Any:
    """A copy with noise on every weight: couplings start as the identity, on which no fault of theirs would show."""
    copied = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return copied


def _scorer(model: Any) -> Callable[[Tensor], Tensor]:
    """log p of images: exact, or of a flow at the same noise every time."""

    def score(x: Tensor) -> Tensor:
        if hasattr(model, "log_prob"):
            out: Tensor = model.log_prob(x)
            return out
        return objective(model, x, torch.Generator().manual_seed(0), {}, None)

    return score


def _bf16_gap(model: Any, x: Tensor) -> float:
    """How far scores under bf16 are from float32, bits/dim: what training sees."""
    score = _scorer(model)

    def short(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return score(x)

    training = model.training
    model.eval()
    gap = gap_in_bits(score, short, x)
    model.train(training)
    return gap


def _kernel_gap(model: Any, x: Tensor) -> float:
    """How far scores by kernels are from those of the formulas in PyTorch, bits/dim."""
    score = _scorer(model)

    def plain(x: Tensor) -> Tensor:
        with without_kernels():
            return score(x)

    return gap_in_bits(score, plain, x)


def glow(options: Options) -> Contest:
    """Glow of 2 scales of 4 steps with 64 filters, batches of 16 images 32x32x3; our couplings' networks in bfloat16."""
    model_options = {**GLOW, "filters": 8, "depth": 1} if options.small else GLOW
    batch, size, steps = (2, 8, 1) if options.small else (16, 32, 2)
    data = images(64, size)
    chosen: dict[str, Any] = {**model_options, "preprocessing": "rescale"}
    ours = OurSteps("glow", chosen, data, batch, precision="bf16")
    model: Any = ours.loop.model
    shape = [3, size, size]
    peer = PeerProcess(
        PEERS["normflows"],
        options.pip_arguments,
        **model_options,
        shape=shape,
        batch=batch,
        steps=steps,
        threads=options.threads,
    )
    moved = _moved(model)
    audit = audited("glow", chosen, moved, options.audit_seconds)
    counts = num_parameters(model), peer.report["parameters"]
    held = torch.from_numpy(np.asarray(data.split("validation").x)[:4]).long()
    off = _kernel_gap(moved, held), _bf16_gap(moved, held)

    def close() -> None:
        ours.close()
        peer.close()

    return Contest(
        what=f"{steps} training steps of Glow {model_options}, batch {batch} of {size}x{size}x3; our networks in bf16, theirs float32",
        ours=lambda: timed(lambda: ours.run(steps)),
        theirs=peer.run,
        theirs_name=peer.peer.label,
        # The two differ in details (LU of the 1x1 convolutions, split priors), so that equal numbers cannot be asked for: ours
        # are compared with the transforms one by one in PyTorch.
        parity={
            "parameters": counts[0],
            "their_parameters": counts[1],
            "kernels_gap_bits_per_dim": off[0],
            "bf16_gap_bits_per_dim": off[1],
            "audit": audit,
        },
        passed=0.8 < counts[0] / counts[1] < 1.25 and off[0] < LARGEST_BITS and "passed" in audit,
        wanted=2.0,
        close=close,
    )


PREPARE = {"pixelcnn-pp-step": pixelcnn_pp, "glow-step": glow}
