"""GPT-2 over bytes beside transformers: training steps and generation with the same weights."""

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
from codelength.models.registry import build_model
from codelength.space import Space

if TYPE_CHECKING:
    from codelength.bench.tasks import Options

SIZES = {"layers": 4, "width": 256, "heads": 8, "context": 256}
SMALL = {"layers": 1, "width": 32, "heads": 2, "context": 32}
LARGEST_BITS = 1e-4
"""Of the difference between the two scores of a text, bits a byte."""
AUDITED = 8
"""Bytes of the texts of the audit, whose every table of 256 levels it enumerates."""


def _random_bytes(count: int, length: int) -> DataSet:
    x = np.random.default_rng(0).integers(0, 256, (count, length)).astype(np.uint8)
    splits = {"train": Split(x[count // 4 :]), "validation": Split(x[: count // 4])}
    return DataSet("random-bytes", Space("sequence", (length,), 256), splits)


def _contest(options: Options, generate: bool) -> Contest:
    sizes, batch, steps = (SMALL, 2, 1) if options.small else (SIZES, 8, 1)
    context = sizes["context"]
    data = _random_bytes(32, context)
    x = np.asarray(data.split("train").x)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "gpt2.npz"
        np.savez(file, x=x)
        peer = PeerProcess(
            PEERS["transformers"],
            options.pip_arguments,
            **sizes,
            batch=batch,
            steps=steps,
            threads=options.threads,
            generate=generate,
            file=str(file),
        )
        with np.load(file) as stored:
            weights = {name: torch.from_numpy(stored[name]) for name in stored.files}
    nats, greedy = weights.pop("nats"), weights.pop("greedy")
    ours = OurSteps("gpt2", dict(sizes), data, batch, ema_decay=None)  # they keep no average of weights either
    model: Any = ours.loop.model
    token = weights["transformer.wte.weight"]  # theirs has the start token as byte 256
    model.load_hugging_face({**weights, "transformer.wte.weight": token[:256].clone()})
    with torch.no_grad():
        model.start.copy_(token[256])
        model.eval()
        texts = torch.from_numpy(x[:4]).long()
        gap = float((model.log_prob(texts) + nats).abs().max()) / context / float(np.log(2))
        taken = model.sample(1, torch.Generator().manual_seed(0), temperature=0.0)
    same = float((taken.flatten()[: greedy.numel()] == greedy.flatten()).double().mean())
    short: Any = build_model("gpt2", Space("sequence", (AUDITED,), 256), **sizes)
    short.load_state_dict(model.state_dict())
    audit = audited(short, _random_bytes(64, AUDITED), options.audit_seconds)

    def draw() -> None:
        # Theirs draws as many tokens as fit after its start token.
        model.eval().sample(batch, torch.Generator().manual_seed(0))

    def close() -> None:
        ours.close()
        peer.close()

    model.train(not generate)
    what = (
        f"{batch} texts of {context} bytes drawn"
        if generate
        else f"{steps} training steps, {batch} texts of {context} bytes"
    )
    return Contest(
        what=f"{what}; GPT-2 {sizes}, float32, the same weights",
        ours=lambda: timed(draw if generate else lambda: ours.run(steps)),
        theirs=peer.run,
        theirs_name=peer.peer.label,
        parity={"largest_gap_bits_per_byte": gap, "share_of_equal_greedy_bytes": same, "audit": audit},
        passed=gap < LARGEST_BITS and same == 1.0 and is_passed(audit),
        wanted=1.0,
        close=close,
    )


def step(options: Options) -> Contest:
    """Training steps."""
    return _contest(options, generate=False)


def sample(options: Options) -> Contest:
    """Generation; we draw one byte a text more than they."""
    return _contest(options, generate=True)


PREPARE = {"gpt2-step": step, "gpt2-sample": sample}
