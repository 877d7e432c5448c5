"""What all probes of one audit share."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from codelength.audit.inputs import Inputs
from codelength.audit.subject import Probed, ProbeError
from codelength.audit.totals import ENUMERATION_LIMIT, Total, enumerate_total, sampled_total
from codelength.data.dataset import DataSet, Split
from codelength.errors import EvaluationError
from codelength.randomness import derive_seed
from codelength.run import Run

SAMPLES_FOR_FIT = 256


@dataclass
class Context:
    """One audit.

    Args:
        subject: The model.
        inputs: Batches of its space.
        budget: Seconds for all probes.
        seed: Seed of everything.
        data: The data set, if any.
        split: Name of the audited split.
        run: The run the model is of, if it is one.
        fresh_process: Whether to load and score it in a new process.
        notes: What was found while preparing.
        order: An order in which the dims can be coded, once P2 found one.
    """

    subject: Probed
    inputs: Inputs
    budget: float
    seed: int
    data: DataSet | None = None
    split: str = "validation"
    run: Run | None = None
    fresh_process: bool = True
    notes: list[str] = field(default_factory=list)
    order: list[int] | None = None
    started: float = field(default_factory=time.process_time)

    @property
    def audited(self) -> Split | None:
        """The audited split."""
        return None if self.data is None else self.data.split(self.split)

    @property
    def train(self) -> Split | None:
        """The training split, where there is one that is not the audited one."""
        if self.data is None or self.split == "train" or not len(self.data.splits.get("train", ())):
            return None
        return self.data.split("train")

    def seconds(self, share: float) -> float:
        """A share of the budget, and not more than what is left of it; a little at least."""
        left = self.budget - (time.process_time() - self.started)
        return max(0.02, min(share * self.budget, left))

    def rng_seed(self, *names: int | str) -> int:
        """A seed of its own for each purpose."""
        return derive_seed(self.seed, "audit", *names)

    @cached_property
    def points(self) -> list[np.ndarray]:
        """Sets of flat points where the model may have its mass: data, and its own samples if it can draw."""
        sets = [self._flat(self.inputs.data(SAMPLES_FOR_FIT))]
        drawn = self.own_samples
        if drawn is not None:
            sets.append(self._flat(drawn[: len(drawn) // 2]))
        return sets

    @cached_property
    def own_samples(self) -> Tensor | None:
        """Integers the model drew, (n, *shape), or None if it cannot, with a note why."""
        if not self.subject.answers("sample") or not self.subject.is_mass:
            return None
        seconds = self.subject.seconds.get("log_prob", self.subject.seconds.get("bound", 0.0))
        count = SAMPLES_FOR_FIT if seconds * self.inputs.space.num_dims * SAMPLES_FOR_FIT < self.seconds(0.1) else 16
        generator = torch.Generator().manual_seed(self.rng_seed("sample"))
        try:
            with torch.no_grad():
                drawn = self.subject.model.sample(count, generator, **self.subject.conditions(count))
            return self.inputs.space.validate(torch.as_tensor(drawn).reshape(count, *self.inputs.space.sizes).cpu())
        except Exception as error:  # a foreign sampler may fail in any way; the audit goes on without it
            self.notes.append(f"sample() cannot be used: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
            return None

    def _flat(self, x: Tensor) -> np.ndarray:
        return (x.flatten(1) - self.inputs.space.offset).numpy()

    @cached_property
    def log_prob_total(self) -> Total:
        """The total of exp log_prob over the space: by enumeration if it is small, else from samples."""
        enumerated = enumerate_total(self.subject.log_prob, self.inputs, ENUMERATION_LIMIT, self.seconds(0.2))
        if enumerated is not None:
            return enumerated
        steps = min(4000, max(300, 40 * self.inputs.space.num_dims))
        return sampled_total(
            self.subject.log_prob,
            self.inputs,
            self.points,
            seconds=self.seconds(0.1),
            name="log_prob",
            samples=self.affordable("log_prob", 1024),
            anneal_steps=steps,
        )

    @cached_property
    def joint_follows_from_conditionals(self) -> bool:
        """Whether log_prob is the sum of its log conditionals and there are too many data to enumerate: nothing is left to check."""
        space = self.inputs.space
        if self.table_difference is None or space.uniform_nats <= math.log(ENUMERATION_LIMIT):
            return False
        return relative(*self.table_difference) <= (1e-6 if self.subject.in_float64 else 1e-3)

    @cached_property
    def scored_indices(self) -> np.ndarray:
        """Which data of the audited split are scored: all if time allows, else a seeded sample in data order."""
        assert self.audited is not None
        member = "log_prob" if self.subject.has_log_prob else "bound"
        count = min(len(self.audited), self.affordable(member, 1000, 0.1, 32))
        return np.sort(self.inputs.generator("scored").permutation(len(self.audited))[:count])

    @cached_property
    def code_lengths(self) -> np.ndarray:
        """Code length of each scored datum of the audited split, nats; infinite where its probability is 0.

        Of a dequantized density, as in its record: the shorter one on average of those by its own dequantizer and by U(0, 1).
        """
        from codelength.evaluation import per_example_nats
        from codelength.evaluation.evaluate import dequantizer_variants

        assert self.audited is not None
        try:
            scored = [
                per_example_nats(variant, self.audited, seed=self.seed, indices=self.scored_indices).code_length
                for variant in dequantizer_variants(self.subject.model).values()
            ]
            return min(scored, key=np.mean)
        except EvaluationError:  # it refuses infinities, which are to be reported
            x = self.audited.batch(self.scored_indices)
            if self.subject.has_log_prob:
                return -self.subject.log_prob(x, model=self.subject.model).numpy()
            return -self.subject.bound(x, 1, self.rng_seed("code-lengths") % 2**62, model=self.subject.model).numpy()

    @cached_property
    def table_difference(self) -> tuple[Tensor, Tensor] | None:
        """log P(x) by log_prob and by the sum of log conditionals, (n,) each; None unless it has both of its own."""
        subject = self.subject
        if not (subject.has_log_prob and subject.has_table):
            return None
        x = self.inputs.everything(self.affordable("conditionals", 32), "table-difference")
        index = (x - self.inputs.space.offset).flatten(1).unsqueeze(-1)
        chosen = subject.table(x).gather(-1, index).squeeze(-1).clamp(min=0)
        log_prob = subject.log_prob(x)
        # A table of probabilities underflows where a log probability does not.
        kept = (chosen.amin(1) > 1e-290) | (log_prob > -300)
        return log_prob[kept], chosen[kept].log().sum(1)

    def affordable(self, member: str, wanted: int, share: float = 0.05, least: int = 8) -> int:
        """How many of `wanted` data a share of the budget can score, at least `least`."""
        cost = self.subject.seconds.get(member, 0.0)
        return int(max(least, min(wanted, self.seconds(share) / max(cost, 1e-9))))

    def repeated_bounds(self, x: Tensor, k: int, repeats: int, name: str = "bound") -> Tensor:
        """Bounds from independent noise, (repeats, n)."""
        seeds = [self.rng_seed(name, k, r) % 2**62 for r in range(repeats)]
        return torch.stack([self.subject.bound(x, k, seed) for seed in seeds])


def relative(a: Tensor, b: Tensor) -> float:
    """Largest |a − b| / (1 + |b|); equal infinities count as equal, an infinity against a number as infinite."""
    same = a == b
    gap = torch.where(same, torch.zeros_like(a), (a - b).abs() / (1 + b.abs().nan_to_num(posinf=1e300, neginf=1e300)))
    gap = torch.where(same | (a.isfinite() & b.isfinite()), gap, torch.full_like(gap, math.inf))
    return float(gap.max()) if gap.numel() else 0.0


__all__ = ["Context", "ProbeError", "relative"]
