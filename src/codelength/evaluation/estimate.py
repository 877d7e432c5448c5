"""Code length of every datum of a split: the one loop that all numbers come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from codelength import distributed
from codelength.data.dataset import Split
from codelength.errors import EvaluationError, UsageError
from codelength.evaluation.bounds import bound_batch, given_bound_batch
from codelength.models.base import EstimateKind, LikelihoodModel, can, estimate_kind

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PerExample:
    """Code length of each datum, in the order of the indices scored.

    Args:
        code_length: −log P, or −bound, nats, (N,) float64: a cost, lower is better.
        kind: What the numbers are.
        num_samples: K of a bound, 1 where exact.
        elbo: Code length at K = 1, nats, (N,): the mean over the K log weights, a low-variance ELBO. Bounds only.
        ess: Effective sample size of the K weights, (N,). Bounds from weights only.
        k_hat: Pareto k-hat of the weights' tail, (N,); NaN below 25 samples. Bounds from weights only.
        curve: K -> mean code length with K samples, nats, at K = 1, 10, 100, ... and the last. Bounds only.
        terms: Name -> that term of the bound at K = 1, nats, higher is better, (N,).
        expected_over_binarizations: Whether it is the expectation over dynamic binarizations.
    """

    code_length: np.ndarray
    kind: EstimateKind
    num_samples: int = 1
    elbo: np.ndarray | None = None
    ess: np.ndarray | None = None
    k_hat: np.ndarray | None = None
    curve: dict[int, float] = field(default_factory=dict)
    terms: dict[str, np.ndarray] = field(default_factory=dict)
    expected_over_binarizations: bool = False


def per_example_nats(
    model: LikelihoodModel,
    split: Split,
    *,
    samples: int = 1,
    seed: int = 0,
    batch_size: int = 100,
    indices: Sequence[int] | np.ndarray | None = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
    lockstep: bool = False,
) -> PerExample:
    """Score every datum once, whatever the batch size.

    Dynamically binarized data (`split.intensity`) are scored by their expectation over binarizations where the model
    has `expected_log_prob`; else the binarized `split.x` is scored.

    The processes of a job (`distributed`) must all call; each scores a part, and all of them return the whole in order.

    Args:
        model: Its members decide what is computed: `log_prob` is exact, `log_weights` gives a K-sample bound.
        split: The data.
        samples: K of a bound; without effect on exact models.
        seed: Seed of the bound's noise, which is a function of (seed, example index, sample index).
        batch_size: Examples a batch; changes nothing but round-off.
        indices: Data to score, in this order; all by default.
        device: Moves the model there first; its own device by default.
        progress: Called with (examples done, examples in all) after each batch.
        lockstep: Every process computes as many batches, since the model's weights are gathered from all of them; those
            that have fewer repeat their last one and drop the result.

    Raises:
        UsageError: A size is not positive, or a condition that the model takes is not in the data.
        SpaceMismatchError: The data do not fit the model's space.
        EvaluationError: There are no data, or a code length is NaN or infinite: the examples are named.
    """
    if device is not None:
        model.to(device)
    arrays = scored_arrays(
        model,
        split,
        samples=samples,
        seed=seed,
        batch_size=batch_size,
        indices=indices,
        progress=progress,
        lockstep=lockstep,
        spread=True,
    )
    return from_arrays(model, split, [arrays], samples=samples, seed=seed)


def scored_arrays(
    model: LikelihoodModel,
    split: Split,
    *,
    samples: int = 1,
    seed: int = 0,
    batch_size: int = 100,
    indices: Sequence[int] | np.ndarray | None = None,
    progress: Progress | None = None,
    lockstep: bool = False,
    spread: bool = False,
) -> dict[str, np.ndarray]:
    """The named per-datum arrays that `from_arrays` makes a `PerExample` of; arguments and errors of `per_example_nats`.

    Args:
        spread: Share the work among the processes of a job; all return the whole.
    """
    for name, value in (("samples", samples), ("batch_size", batch_size)):
        if value < 1:
            raise UsageError(f"{name}={value}; wanted 1 or more")
    chosen = np.arange(len(split)) if indices is None else np.asarray(indices, dtype=np.int64)
    if len(chosen) == 0:
        raise EvaluationError("no data to score; give a split or indices that are not empty")
    scorer = _Scorer(model, split, samples, seed)
    processes = distributed.size() if spread else 1
    # Whole batches a process, so that the numbers are those of one process to the last bit; smaller ones where there are
    # fewer batches than processes.
    batch_size = min(batch_size, -(-len(chosen) // processes))
    starts = range(0, len(chosen), batch_size)
    first, last = distributed.share(len(starts), distributed.rank() if spread else 0, processes)
    batches = []
    with evaluation_mode(model), torch.no_grad() if lockstep else torch.inference_mode():
        for start in starts[first:last]:
            batches.append(scorer.score(chosen[start : start + batch_size]))
            if progress is not None:
                done = (start - first * batch_size + batch_size) * processes
                progress(min(done, len(chosen)), len(chosen))
        for _ in range(distributed.share(len(starts), 0, processes)[1] - (last - first) if lockstep else 0):
            scorer.score(chosen[-batch_size:])
    return _gathered(batches) if processes > 1 else _joined(batches)


def from_arrays(
    model: LikelihoodModel, split: Split, parts: list[dict[str, np.ndarray]], *, samples: int = 1, seed: int = 0
) -> PerExample:
    """The result of what `scored_arrays` gave for parts of the data, in their order."""
    return _Scorer(model, split, samples, seed).collect(parts)


def _joined(batches: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _gathered(batches: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The batches of all processes, in order."""
    names = distributed.from_first(list(batches[0]) if batches else [])  # the first process always has some
    none = np.zeros(0, dtype=np.float64)
    own = {name: np.concatenate([none, *(batch[name] for batch in batches)]) for name in names}
    return {name: distributed.gather(values) for name, values in own.items()}


class _Scorer:
    """How a model scores the data of a split: decided once, before the first batch."""

    def __init__(self, model: LikelihoodModel, split: Split, samples: int, seed: int) -> None:
        missing = [name for name in model.conditioning if name not in split.conditions]
        if missing:
            raise UsageError(
                f"the model is conditioned on {', '.join(missing)} but the data have "
                f"{', '.join(split.conditions) or 'no conditions'}; choose data that carry them"
            )
        self.model: Any = model  # its members are optional, so unknown to the type checker
        self.split, self.seed = split, seed
        self.expected = split.intensity is not None and can(model, "expected_log_prob")
        self.kind: EstimateKind = "exact" if self.expected else estimate_kind(model)
        self.samples = 1 if self.kind == "exact" else samples

    def score(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Named arrays of the data at `indices`, each (B,), float64 nats.

        Raises:
            SpaceMismatchError, EvaluationError: See `per_example_nats`.
        """
        device = self.model.device
        x = self.model.space.validate(self.split.batch(indices)).to(device)
        given = self.split.condition_batch(indices)
        conditions = {name: given[name].to(device) for name in self.model.conditioning}
        if self.kind == "exact":
            result = {"code_length": -self._log_prob(x, indices, conditions)}
        else:
            of_batch = given_bound_batch if can(self.model, "bound") else bound_batch
            bound = of_batch(self.model, x, indices, samples=self.samples, seed=self.seed, conditions=conditions)
            result = {"code_length": -bound.bound, "elbo": -bound.elbo}
            result |= {} if bound.ess is None else {"ess": bound.ess}
            result |= {} if bound.k_hat is None else {"k_hat": bound.k_hat}
            result |= {f"curve {k}": -values for k, values in bound.curve.items()}
            result |= {f"term {name}": values for name, values in bound.terms.items()}
        arrays = {name: values.double().cpu().numpy() for name, values in result.items()}
        _refuse_non_finite(arrays["code_length"], indices)
        return arrays

    def _log_prob(self, x: Tensor, indices: np.ndarray, conditions: dict[str, Tensor]) -> Tensor:
        if self.expected:
            assert self.split.intensity is not None
            intensity = torch.from_numpy(np.ascontiguousarray(self.split.intensity[indices]))
            intensity = intensity.to(device=x.device, dtype=self.model.dtype)
            log_prob = self.model.expected_log_prob(intensity, **conditions)
        else:
            log_prob = self.model.log_prob(x, **conditions)
        if tuple(log_prob.shape) != (len(x),):
            raise EvaluationError(
                f"{type(self.model).__name__} returned log probabilities of shape {tuple(log_prob.shape)} for "
                f"{len(x)} data; wanted one value a datum, summed over dims"
            )
        return log_prob

    def collect(self, batches: list[dict[str, np.ndarray]]) -> PerExample:
        """All batches as one result, in their order."""
        arrays = _joined(batches)
        curve = {int(name.split()[1]): float(v.mean()) for name, v in arrays.items() if name.startswith("curve ")}
        return PerExample(
            code_length=arrays["code_length"],
            kind=self.kind,
            num_samples=self.samples,
            elbo=arrays.get("elbo"),
            ess=arrays.get("ess"),
            k_hat=arrays.get("k_hat"),
            curve=curve,
            terms={name.removeprefix("term "): v for name, v in arrays.items() if name.startswith("term ")},
            expected_over_binarizations=self.expected,
        )


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; every module's own mode as it was after."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _refuse_non_finite(code_length: np.ndarray, indices: np.ndarray) -> None:
    bad = indices[~np.isfinite(code_length)]
    if len(bad):
        values = code_length[~np.isfinite(code_length)]
        named = ", ".join(map(str, bad[:10])) + (", ..." if len(bad) > 10 else "")
        raise EvaluationError(
            f"the code length of {len(bad)} of {len(indices)} data is {values[0]}: examples {named}. Such a datum can "
            "neither be scored nor left out; look at the model's outputs there"
        )
