"""The logistic mixture loss, forward and backward, against its usual form; time, peak memory and gradients."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from codelength import native
from codelength.bench.measure import Contest, timed
from codelength.bench.plain_pixelcnn_pp import plain_mixture_log_mass
from codelength.functional import MixtureLayout, logistic_mixture_log_mass, unpack_mixture

if TYPE_CHECKING:
    from codelength.bench.tasks import Options

LAYOUT = MixtureLayout(3, 10, 256, True)
LARGEST_DISTANCE = 1e-4
"""Of gradients, relative to the largest one."""


def case(batch: int) -> tuple[Tensor, Tensor]:
    """Outputs as of a network half trained, (batch, 100, 32, 32), and images."""
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(batch, LAYOUT.num_parameters, 32, 32, generator=generator) * 0.5
    # Scales of some levels, as trained networks have them.
    rows = torch.arange(LAYOUT.num_parameters - LAYOUT.components) % 9
    outputs[:, LAYOUT.components :][:, (rows >= 3) & (rows < 6)] -= 2.5
    return outputs, torch.randint(256, (batch, 3, 32, 32), generator=generator)


def fused(outputs: Tensor, value: Tensor) -> Tensor:
    """Our loss, nats."""
    return -logistic_mixture_log_mass(outputs, value, LAYOUT).sum()


def plain(outputs: Tensor, value: Tensor) -> Tensor:
    """The usual form's loss, nats."""
    return -plain_mixture_log_mass(outputs, value, LAYOUT.components).sum()


def formula(outputs: Tensor, value: Tensor) -> Tensor:
    """The formula of the mixture by autodiff, without the kernel: what gradients are compared with, in float64."""
    return -unpack_mixture(outputs, LAYOUT).log_mass(value).sum()


def gradient(loss: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and gradient by the outputs."""
    leaf = outputs.detach().requires_grad_()
    total = loss(leaf, value)
    return total.detach(), torch.autograd.grad(total, leaf)[0]


PEAK = """
import gc, torch
from codelength.bench import mixture_loss as m
torch.set_num_threads({threads})
outputs, value = m.case({batch})
m.gradient(m.{which}, outputs[:1], value[:1])
gc.collect()
m.reset_mark()
before = m.memory("VmRSS")
m.gradient(m.{which}, outputs, value)
print(m.memory("VmHWM") - before)
"""


def memory(key: str) -> float:
    """Memory of this process on Linux, MiB: "VmRSS" now, "VmHWM" at most since the mark was reset or the process began."""
    # getrusage would count what the parent had when it started this process.
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


def reset_mark() -> None:
    """Let the high-water mark begin at what the process holds now."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_mib(which: str, batch: int, threads: int) -> float:
    """Memory that loss and gradient need above their inputs, in a process of its own, MiB."""
    code = PEAK.format(which=which, batch=batch, threads=threads)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def prepare(options: Options) -> Contest:
    """64 images of 32x32x3 with 10 components."""
    batch = 4 if options.small else 64
    outputs, value = case(batch)
    (ours, our_gradient), (theirs, their_gradient) = (gradient(loss, outputs, value) for loss in (fused, plain))
    few = slice(0, 8)
    exact = gradient(formula, outputs[few].double(), value[few])[1]

    def distance(short: Tensor, wide: Tensor) -> float:
        return float((short[few].double() - wide).abs().max() / wide.abs().max())

    off = {"ours": distance(our_gradient, exact), "theirs": distance(their_gradient, exact)}
    apart = distance(our_gradient, their_gradient[few].double())
    peaks = {}
    if sys.platform == "linux":
        peaks = {which: round(peak_mib(which, batch, options.threads), 1) for which in ("fused", "plain")}
    return Contest(
        what=f"loss and gradient of {batch} images 32x32x3, 10 components, float32",
        ours=lambda: timed(lambda: gradient(fused, outputs, value)),
        theirs=lambda: timed(lambda: gradient(plain, outputs, value)),
        theirs_name="the usual form in PyTorch",
        # The usual form's own gradient is off: it subtracts sigmoids, and takes a density where their difference is small.
        parity={
            "loss_relative_difference": float((ours - theirs).abs() / theirs),
            "gradient_largest_difference_from_float64": off["ours"],
            "their_gradient_largest_difference_from_float64": off["theirs"],
            "gradient_largest_difference_between_them": apart,
        },
        passed=off["ours"] < LARGEST_DISTANCE and apart < off["theirs"] + LARGEST_DISTANCE,
        wanted=3.0,
        facts={
            "peak_mib": peaks,
            "peak_ratio": round(peaks["plain"] / peaks["fused"], 2) if peaks.get("fused") else None,
            "kernels": native.state() if native.missing() else "compiled",
        },
    )


PREPARE = {"mixture-loss": prepare}
