"""Faults of other shapes than those in `broken/`: the probes look for the property, not for the example."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from codelength.audit import Verdict, audit


def statuses(subject: Any, budget: float = 4) -> dict[str, Verdict]:
    return {v.probe: v for v in audit(subject, budget=budget, fresh_process=False)}


def table(levels: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.softmax(torch.randn(levels + 1, levels, generator=generator, dtype=torch.float64), -1)


class Chain:
    """A Markov chain along the flat order."""

    shape, levels = (1, 4, 4), 4

    def rows(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return table(self.levels)[torch.cat([torch.full_like(flat[:, :1], self.levels), flat[:, :-1]], 1)]

    def log_prob(self, x: Tensor) -> Tensor:
        return self.rows(x).gather(-1, x.flatten(1).unsqueeze(-1)).squeeze(-1).log().sum(1)


class Causal(Chain):
    def conditionals(self, x: Tensor) -> Tensor:
        return self.rows(x)


class Colour(Causal):
    shape, levels = (3, 2, 2), 6


class SumsTo102(Causal):
    def conditionals(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        left = torch.cat([torch.zeros_like(flat[:, :1]), flat[:, :-1]], 1)
        return self.rows(x) * (1 + 0.02 * (left == 3)).unsqueeze(-1)


class NegativeProbability(Causal):
    def conditionals(self, x: Tensor) -> Tensor:
        rows = self.rows(x).clone()
        rows[..., 0], rows[..., 1] = -0.01, rows[..., 0] + rows[..., 1] + 0.01
        return rows


class BonusInLogProb(Causal):
    def log_prob(self, x: Tensor) -> Tensor:
        p = self.rows(x).gather(-1, x.flatten(1).unsqueeze(-1)).squeeze(-1)
        return (0.9 * p + 0.1).log().sum(1)


class Temperature(Chain):
    def log_prob(self, x: Tensor) -> Tensor:
        return super().log_prob(x) / 1.5


class ClosedBinsOfWideImages:
    """Log probabilities of mixtures summed over components, on 36 bytes: far below one."""

    shape, levels = (1, 6, 6), 256

    def log_prob(self, x: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(2)
        logits = 2 * torch.randn(3, 256, generator=generator, dtype=torch.float64)
        return torch.log_softmax(logits, -1)[:, x.flatten(1)].sum((0, 2))


class SamplesElsewhere(Chain):
    """log_prob misses a tenth of the mass of every dim; its samples tell."""

    shape = (1, 6, 6)

    def log_prob(self, x: Tensor) -> Tensor:
        return super().log_prob(x) + 36 * math.log(0.9)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        x = torch.zeros(n, 36, dtype=torch.long)
        for i in range(36):
            previous = x[:, i - 1] if i else torch.full((n,), 4)
            x[:, i] = torch.multinomial(table(4)[previous], 1, generator=generator).squeeze(1)
        return x.reshape(n, 1, 6, 6)


class LeakInTheLastDim(Causal):
    log_prob = None  # type: ignore[assignment]

    def conditionals(self, x: Tensor) -> Tensor:
        rows = self.rows(x).clone()
        rows[:, -1] = torch.softmax(rows[:, -1] + 0.5 * functional.one_hot(x.flatten(1)[:, -1], 4), -1)
        return rows


class LeakInOneContext(Causal):
    """Dim 9 sees dim 10 if dims 4 and 5 are 3 and 2."""

    log_prob = None  # type: ignore[assignment]

    def conditionals(self, x: Tensor) -> Tensor:
        rows, flat = self.rows(x).clone(), x.flatten(1)
        hit = (flat[:, 4] == 3) & (flat[:, 5] == 2)
        seen = torch.softmax(rows[:, 9] + functional.one_hot(flat[:, 10], 4), -1)
        rows[:, 9] = torch.where(hit.unsqueeze(1), seen, rows[:, 9])
        return rows


class TinyLeakThroughTheMean(Causal):
    log_prob = None  # type: ignore[assignment]

    def conditionals(self, x: Tensor) -> Tensor:
        return torch.softmax(self.rows(x).log() * (1 + 1e-5 * x.double().mean((1, 2, 3)).reshape(-1, 1, 1)), -1)


class RedAndGreenSeeEachOther(Colour):
    log_prob = None  # type: ignore[assignment]

    def conditionals(self, x: Tensor) -> Tensor:
        return table(6)[torch.cat([x[:, 1:2], x[:, :1], x[:, :1]], 1)].flatten(1, 3)


class TrainMode(nn.Module):
    """A masked network whose author forgot .eval()."""

    shape, levels = (1, 3, 3), 4

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.first = nn.Parameter(torch.randn(9, 9, generator=generator))
        self.second = nn.Parameter(torch.randn(9, 9, 4, generator=generator))
        self.layer = layer

    def conditionals(self, x: Tensor) -> Tensor:
        h = self.layer(torch.tanh(0.2 * x.flatten(1).to(self.first.dtype) @ self.first.triu(1)))
        mask = torch.ones(9, 9).triu(0).unsqueeze(-1)
        return torch.softmax(torch.einsum("ni,ijl->njl", h, self.second * mask), -1)


class FirstBatchDecides(Causal):
    mean: float | None = None
    log_prob = None  # type: ignore[assignment]

    def conditionals(self, x: Tensor) -> Tensor:
        if self.mean is None:
            self.mean = float(x.double().mean())
        return torch.softmax(self.rows(x).log() * (1 + 0.1 * self.mean), -1)


class CountsWhatItSees(Chain):
    """Adapts to the data it scores."""

    seen = 0

    def log_prob(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return super().log_prob(x) - 1 / self.seen


class NumpyNoise(Chain):
    def log_prob(self, x: Tensor) -> Tensor:
        return super().log_prob(x) - torch.from_numpy(np.random.default_rng().random(len(x)))


class DividedByChannels(Colour):
    conditionals = None  # type: ignore[assignment]

    def log_prob(self, x: Tensor) -> Tensor:
        return super().log_prob(x) / 3


class OppositeSign(Chain):
    def log_prob(self, x: Tensor) -> Tensor:
        return -super().log_prob(x)


class ConstantInLogProb(Causal):
    def log_prob(self, x: Tensor) -> Tensor:
        return super().log_prob(x) + 3.0


class BitsAPixel(Colour):
    def evaluate(self, batches: list[Tensor]) -> float:
        return float(torch.cat([-self.log_prob(x) for x in batches]).mean()) / 4 / math.log(2)


class Beta:
    """Independent Beta densities with a constant of the wrong size."""

    shape, levels = (1, 4, 4), 256

    def __init__(self, constant: float) -> None:
        self.constant = constant

    def density_log_prob(self, y: Tensor) -> Tensor:
        z = (y.flatten(1).double() / 256).clamp(1e-12, 1 - 1e-12)
        log_p = torch.distributions.Beta(2.0, 3.0).log_prob(z).sum(1) - self.constant
        return torch.where(((y > 0) & (y < 256)).flatten(1).all(1), log_p, -math.inf)


class Latent(nn.Module):
    """Bits with a latent Gaussian, and several wrong ways to combine weights."""

    shape, levels = (1, 3, 3), 2

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        generator = torch.Generator().manual_seed(15)
        self.decode, self.mean = nn.Linear(2, 9), nn.Linear(9, 2)
        for parameter in self.parameters():
            parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator)

    def bound(self, x: Tensor, k: int, generator: torch.Generator) -> Tensor:
        flat = x.flatten(1).to(self.decode.weight.dtype)
        mean, noise = self.mean(flat), torch.randn(k, len(x), 2, generator=generator, dtype=flat.dtype)
        z = mean + noise
        w = -functional.softplus((1 - 2 * flat) * self.decode(z)).sum(-1) - 0.5 * (z**2 - noise**2).sum(-1)
        right = torch.logsumexp(w, 0) - math.log(k)
        largest = w.max(1, keepdim=True).values
        return {
            "twice": right - math.log(k),
            "largest": w.max(0).values,
            "axis": largest.amax() + (w - largest).exp().mean(0).log(),
            "scalar": right.mean(),
            "mean of batch": right + 0.1 * w.mean(),
            "too high": right + 1.0,
            "right": right,
            "averaged": w.mean(0),
        }[self.kind]


class KnownAndBounded(Chain):
    """A bound above the exact value."""

    shape = (1, 2, 3)

    def bound(self, x: Tensor, k: int, generator: torch.Generator) -> Tensor:
        return self.log_prob(x) + 0.01 - 1e-6 * torch.rand(k, len(x), generator=generator).mean(0)


class Remembers(Chain):
    def encode(self, x: Tensor) -> bytes:
        self.kept = x.clone()
        return b"abc"

    def decode(self, blob: bytes, n: int) -> Tensor:
        return self.kept


class Raw(Chain):
    def encode(self, x: Tensor) -> bytes:
        return bytes(x.flatten().tolist())

    def decode(self, blob: bytes, n: int) -> Tensor:
        return torch.tensor(list(blob)).reshape(n, 1, 4, 4)


class Loop(Chain):
    """Loops with a fault each."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def evaluate(self, batches: list[Tensor]) -> Any:
        nats = torch.cat([-self.log_prob(x) for x in batches])
        if self.kind == "skips NaN":
            return torch.nanmean(nats)
        if self.kind == "skips infinity":
            return float(nats[nats.isfinite()].mean())
        if self.kind == "one batch too few":
            return float(nats.sum()) / max(1, (len(batches) - 1) * len(batches[0]))
        if self.kind == "pads":
            size = len(batches[0])
            padded = [torch.cat([x, x[-1:].expand(size - len(x), -1, -1, -1)]) for x in batches]
            return {"nats": torch.cat([-self.log_prob(x) for x in padded]).mean()}
        if self.kind == "hundred batches":
            return np.float64(torch.cat([-self.log_prob(x) for x in batches[:100]]).mean())
        if self.kind == "raises":
            assert len(batches[-1]) == len(batches[0])
        if self.kind == "silent":
            return None
        return {"bits_per_dim": float(nats.mean()) / 16 / math.log(2), "examples": len(nats), "per_example": nats}


class BoundLoop(Latent):
    """A loop of a bound: fine, or dropping the last batch."""

    def __init__(self, drop: bool) -> None:
        super().__init__("right")
        self.drop = drop

    def evaluate(self, batches: list[Tensor]) -> float:
        kept = [x for x in batches if len(x) == len(batches[0])] if self.drop else batches
        generator = torch.Generator().manual_seed(0)
        nats = -torch.cat([self.bound(x, 64, generator) for x in kept])
        return float(nats.sum()) / sum(map(len, batches))


FAULTS: dict[str, tuple[Any, str]] = {
    "sums to 1.02 in some contexts": (SumsTo102, "P1"),
    "a negative probability": (NegativeProbability, "P1"),
    "log_prob is not its conditionals": (BonusInLogProb, "P1"),
    "temperature without normalizer": (Temperature, "P1"),
    "components summed, bytes": (ClosedBinsOfWideImages, "P1"),
    "mass missing at its own samples": (SamplesElsewhere, "P1"),
    "leak in the last dim": (LeakInTheLastDim, "P2"),
    "leak in one context": (LeakInOneContext, "P2"),
    "tiny leak through a mean": (TinyLeakThroughTheMean, "P2"),
    "red and green see each other": (RedAndGreenSeeEachOther, "P2"),
    "batch norm in training mode": (lambda: TrainMode(nn.BatchNorm1d(9)), "P3"),
    "bound averaged over the batch": (lambda: Latent("scalar"), "P3"),
    "bound with the batch's mean": (lambda: Latent("mean of batch"), "P3"),
    "dropout in training mode": (lambda: TrainMode(nn.Dropout(0.2)), "P4"),
    "the first batch decides": (FirstBatchDecides, "P4"),
    "adapts to what it scores": (CountsWhatItSees, "P4"),
    "noise of its own": (NumpyNoise, "P4"),
    "divided by the channels": (DividedByChannels, "P5"),
    "opposite sign": (OppositeSign, "P5"),
    "a constant": (ConstantInLogProb, "P5"),
    "bits a pixel": (BitsAPixel, "P5"),
    "constant twice": (lambda: Beta(2 * 16 * math.log(256)), "P5"),
    "constant of 7 bits": (lambda: Beta(16 * math.log(128)), "P5"),
    "log K twice": (lambda: Latent("twice"), "P5"),
    "largest weight": (lambda: Latent("largest"), "P5"),
    "maximum over the wrong axis": (lambda: Latent("axis"), "P3"),
    "bound above the exact value": (KnownAndBounded, "P5"),
    "a bound of nothing": (lambda: Latent("too high"), "P1"),
    "decoder remembers": (Remembers, "P7"),
    "coded raw": (Raw, "P7"),
    "loop of a bound drops a batch": (lambda: BoundLoop(drop=True), "P6"),
    **{
        f"loop {kind}": (lambda kind=kind: Loop(kind), "P6")
        for kind in ("skips NaN", "skips infinity", "one batch too few", "pads", "hundred batches", "raises", "silent")
    },
}


# Totals far below one are believed only of chains that had time to look for more.
NEED_TIME = ("components summed, bytes", "constant twice")


QUICK = ("P3", "P4", "P6", "P7")


def faults() -> list[Any]:
    """Names of the faults; those of the costlier probes are marked slow, but for one each."""
    seen: set[str] = set()
    marked = []
    for name, (_, probe) in FAULTS.items():
        quick = probe in QUICK or probe not in seen
        marked.append(pytest.param(name, marks=() if quick else pytest.mark.slow))
        seen.add(probe)
    return marked


@pytest.mark.parametrize("name", faults())
def test_fault_is_found(name: str) -> None:
    make, probe = FAULTS[name]
    verdict = statuses(make(), 20 if name in NEED_TIME else 4)[probe]
    assert verdict.status == "fail", verdict
    assert verdict.cause


HONEST: dict[str, Any] = {
    "chain": Causal,
    "colour": Colour,
    "density": lambda: Beta(16 * math.log(256)),
    "batch norm with its averages": lambda: TrainMode(nn.BatchNorm1d(9)).eval(),
    "dropout off": lambda: TrainMode(nn.Dropout(0.2)).eval(),
    "importance weights": lambda: Latent("right"),
    "bounds averaged over samples": lambda: Latent("averaged"),
    "loop": lambda: Loop("right"),
    "loop of a bound": lambda: BoundLoop(drop=False),
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_counterpart_passes(name: str) -> None:
    assert not [v for v in statuses(HONEST[name]()).values() if v.status == "fail"]
