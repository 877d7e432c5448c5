"""The tasks, by name; each makes a `Contest` from options."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codelength.bench.measure import Contest, Result, compete
from codelength.errors import unknown_name

# name -> (module in this package, what it is)
TASKS: dict[str, tuple[str, str]] = {
    "mixture-loss": ("mixture_loss", "logistic mixture loss, forward and backward, against its usual form in PyTorch"),
    "pixelcnn-pp-step": (
        "training_steps",
        "training step of PixelCNN++ against the network written plainly in float32",
    ),
    "glow-step": ("training_steps", "training step of Glow against normflows"),
    "maf-step": ("flows", "training step of a masked autoregressive flow against zuko"),
    "spline-flow-step": ("flows", "training step of an autoregressive flow with splines against nflows"),
    "vae-bound": ("latent", "importance-weighted bounds of a VAE against pythae"),
    "gaussian-fit": ("gaussian", "a full Gaussian fitted and scored against scikit-learn"),
    "gpt2-step": ("text", "training step of a GPT-2 over bytes against transformers"),
    "gpt2-sample": ("text", "drawing texts from a GPT-2 over bytes against transformers"),
    "entropy-tables": ("entropy", "coding 1,000,000 symbols with a table each against constriction's batch interface"),
    "entropy-torchac": ("entropy", "coding 1,000,000 symbols with a table each against torchac"),
    "entropy-mixtures": ("entropy", "coding logistic mixtures by CDF on demand against building their tables"),
    "help": ("startup", "`codelength --help` against a limit of 0.3 s"),
    "import": ("startup", "`import codelength` beyond torch against a limit of 0.2 s"),
    "sampling": ("sampling", "256 images of PixelCNN++ by cached steps against a full pass a pixel"),
}


@dataclass(frozen=True)
class Options:
    """What all tasks are told.

    Args:
        threads: Threads of both sides.
        rounds: Rounds that count; each runs both once.
        pip_arguments: Options of pip for environments of peers.
        small: Sizes that are done in seconds, to try the benchmark itself: its ratios say nothing.
        audit_seconds: Budget of the audit in each task that trains a model.
    """

    threads: int
    rounds: int = 7
    pip_arguments: Sequence[str] = ()
    small: bool = False
    audit_seconds: float = 20.0


def run_task(name: str, options: Options) -> Result:
    """Prepare a task, check it, and time it.

    Raises:
        UsageError: There is no such task.
        PeerError: A peer cannot be installed or started.
    """
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    import torch

    module: Any = importlib.import_module(f"codelength.bench.{TASKS[name][0]}")
    threads = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        contest: Contest = module.PREPARE[name](options)
        return compete(name, contest, options.rounds)
    finally:
        torch.set_num_threads(threads)
