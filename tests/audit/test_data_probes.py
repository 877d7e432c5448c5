"""P8, P9 and P10: baselines, data, error bars; each with what must fail and what must not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from codelength import Space, build_model
from codelength.audit import Verdict, audit
from codelength.audit.duplicates import exact_duplicates, near_duplicates
from codelength.audit.plausible import BY_FINGERPRINT, plausible_minimum
from codelength.data import load_data
from codelength.data.dataset import DataSet, Split

SPACE = Space.image(1, 8, 8, 8)


class Product:
    """Independent dims with the same probabilities."""

    shape, levels = (1, 8, 8), 8

    def __init__(self, probs: list[float]) -> None:
        self.log_p = torch.log(torch.tensor(probs, dtype=torch.float64))

    def log_prob(self, x: Tensor) -> Tensor:
        return self.log_p[x].flatten(1).sum(1)


def smooth(n: int, seed: int) -> np.ndarray:
    """Planes of random slope."""
    rng = np.random.default_rng(seed)
    grid = np.indices((8, 8)) / 8
    planes = rng.uniform(0, 7, (n, 1, 1)) + np.einsum("nk,khw->nhw", rng.normal(0, 3, (n, 2)), grid)
    return np.clip(np.rint(planes), 0, 7).astype(np.int64)[:, None]


def data(**splits: np.ndarray) -> DataSet:
    return DataSet("own", SPACE, {name: Split(x) for name, x in splits.items()})


def verdicts(model: Any, dataset: DataSet | None) -> dict[str, Verdict]:
    return {v.probe: v for v in audit(model, dataset, budget=2, fresh_process=False)}


SMOOTH = data(train=smooth(300, 0), validation=smooth(120, 1))


def test_worse_than_uniform_fails() -> None:
    wrong = Product([0.001, 0.001, 0.494, 0.001, 0.5, 0.001, 0.001, 0.001])
    verdict = verdicts(wrong, SMOOTH)["P8"]
    assert verdict.status == "fail"
    assert "times the code length of the uniform model" in verdict.message


def test_worse_than_a_context_table_warns() -> None:
    counts = np.bincount(SMOOTH.split("train").x.ravel(), minlength=8) + 0.5
    verdict = verdicts(Product((counts / counts.sum()).tolist()), SMOOTH)["P8"]
    assert verdict.status == "warn"
    assert "worse than a context table" in verdict.message
    assert verdict.evidence["context_table_bits_per_dim"] < verdict.evidence["bits_per_dim"]


def test_the_context_table_itself_passes() -> None:
    table: Any = build_model("context_table", SPACE)
    table.fit(SMOOTH.split("train").batch(slice(None)))
    assert verdicts(table, SMOOTH)["P8"].status == "pass"


def test_better_than_noise_can_be_fails() -> None:
    class Cheat(Product):
        def log_prob(self, x: Tensor) -> Tensor:
            return super().log_prob(x) / 2

    verdict = verdicts(Cheat([1 / 8] * 8), SMOOTH)["P8"]
    assert verdict.status == "fail"
    assert "uniform noise" in verdict.message


def test_probabilities_above_one_fail() -> None:
    class Positive(Product):
        def log_prob(self, x: Tensor) -> Tensor:
            return torch.ones(len(x))

    assert "a probability above 1" in verdicts(Positive([1 / 8] * 8), SMOOTH)["P8"].message


def test_infinite_code_lengths_fail() -> None:
    verdict = verdicts(Product([0.0, *[1 / 7] * 7]), SMOOTH)
    assert verdict["P8"].status == verdict["P10"].status == "fail"
    assert "infinite code length" in verdict["P8"].message


def test_less_than_plausible_fails() -> None:
    """A model that knows the validation data by heart reaches what no honest one can."""
    digits = load_data("digits")
    known = {row.tobytes() for row in digits.split("validation").batch(slice(None)).numpy()}

    class ByHeart:
        def log_prob(self, x: Tensor) -> Tensor:
            uniform, share = -64 * math.log(17), math.log(0.5 / len(known))
            hit = torch.tensor([row.tobytes() in known for row in x.numpy()])
            log_rest = math.log(0.5) + uniform
            return torch.where(
                hit, torch.tensor(share, dtype=torch.float64), torch.tensor(log_rest, dtype=torch.float64)
            )

    found = verdicts(ByHeart(), digits)
    assert found["P1"].status == "pass"
    assert found["P8"].status == "fail"
    assert "less than any honest model" in found["P8"].message
    assert plausible_minimum("elsewhere", digits.split("validation").fingerprint()) == 1.2
    assert plausible_minimum("elsewhere", "") is None
    assert digits.split("test").fingerprint() in BY_FINGERPRINT


def test_samples_of_probability_zero_warn() -> None:
    class Sampler(Product):
        def sample(self, n: int) -> Tensor:
            return torch.zeros(n, 1, 8, 8, dtype=torch.long)

    x = np.clip(smooth(60, 2), 1, 7)
    verdict = verdicts(Sampler([0.0, *[1 / 7] * 7]), data(validation=x))["P8"]
    assert verdict.status == "warn"
    assert "own samples have probability 0" in verdict.message


def test_data_inside_the_training_data_fail() -> None:
    train = smooth(400, 3)
    leaked = data(train=train, validation=np.concatenate([train[:60], smooth(40, 4)]))
    verdict = verdicts(Product([1 / 8] * 8), leaked)["P9"]
    assert verdict.status == "fail"
    assert "in the training split too" in verdict.message
    assert verdicts(Product([1 / 8] * 8), SMOOTH)["P9"].status == "pass"


def test_a_lower_bit_depth_warns() -> None:
    x = smooth(100, 5) // 2 * 2
    verdict = verdicts(Product([1 / 8] * 8), data(validation=x))["P9"]
    assert verdict.status == "warn"
    assert "multiples of 2" in verdict.message
    two = verdicts(Product([1 / 8] * 8), data(validation=x // 4 * 7))["P9"]
    assert "only 2 of 8 levels occur" in two.message


def test_near_duplicates() -> None:
    rng = np.random.default_rng(6)
    space = Space.image(1, 16, 16, 256)
    others = np.cumsum(rng.normal(0, 12, (60, 1, 16, 16)), axis=-1).clip(-127, 128).astype(np.int64) + 127
    copies = np.clip(others[:20] + rng.integers(-2, 3, size=(20, 1, 16, 16)), 0, 255)
    fresh = np.cumsum(rng.normal(0, 12, (20, 1, 16, 16)), axis=-1).clip(-127, 128).astype(np.int64) + 127
    assert near_duplicates(copies, others, space) == 1.0
    assert near_duplicates(copies[..., ::-1], others, space) == 1.0
    assert near_duplicates(fresh, others, space) == 0.0
    assert near_duplicates(fresh[:0], others, space) == 0.0
    assert exact_duplicates(others[:5], others) == 1.0
    sequences = Space("sequence", (64,), 256)
    assert near_duplicates(copies.reshape(20, -1)[:, :64], others.reshape(60, -1)[:, :64], sequences) == 1.0


def test_error_bars_respect_clusters() -> None:
    x = np.repeat(smooth(15, 7), 8, axis=0)
    split = Split(x, clusters=np.repeat(np.arange(15), 8))
    dataset = DataSet("own", SPACE, {"validation": split})
    verdict = verdicts(Product([0.3, *[0.1] * 7]), dataset)["P10"]
    assert verdict.status == "pass"
    assert verdict.evidence["clusters"] == 15
    plain = verdict.evidence["standard_error_ignoring_clusters_bits_per_dim"]
    assert verdict.evidence["standard_error_bits_per_dim"] > 2 * plain
    few = verdicts(Product([1 / 8] * 8), data(validation=smooth(10, 8)))["P10"]
    assert few.status == "warn"


def test_without_data_nothing_of_it_passes(make_dataset: Callable[..., DataSet]) -> None:
    found = verdicts(Product([1 / 8] * 8), None)
    assert found["P9"].status == found["P10"].status == "not applicable"
    assert found["P2"].status == found["P7"].status == "not applicable"
    assert "give --data" in found["P9"].message


def test_bounds_are_scored_too() -> None:
    class Bound(Product):
        log_prob = None  # type: ignore[assignment]

        def bound(self, x: Tensor, k: int, generator: torch.Generator) -> Tensor:
            noise = torch.rand(k, len(x), generator=generator, dtype=torch.float64).mean(0)
            return self.log_p[x].flatten(1).sum(1) - noise

    found = verdicts(Bound([0.3, *[0.1] * 7]), SMOOTH)
    assert not [v for v in found.values() if v.status == "fail"]
    assert found["P10"].status == "pass"


@pytest.mark.parametrize("message", ["levels"])
def test_data_of_another_space_cannot_be_audited(message: str) -> None:
    from codelength.audit import AuditError

    wide = DataSet("own", Space.image(1, 8, 8, 256), {"validation": Split(smooth(20, 9) * 30)})
    with pytest.raises(AuditError, match=message):
        audit(Product([1 / 8] * 8), wide)
