"""Objects with some of the members: each becomes the member of the interface it stands for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from codelength import Space
from codelength.adapters import ForeignModel, adapt
from codelength.adapters.foreign import declared_space, is_module
from codelength.adapters.table import conditional_table
from codelength.errors import EvaluationError, SpaceMismatchError, UsageError
from codelength.evaluation import per_example_nats
from codelength.models.base import can, estimate_kind
from codelength.pixels import Categorical
from codelength.randomness import ExampleNoise

SPACE = Space.image(1, 2, 2, 3)
X = torch.randint(3, (5, 1, 2, 2), generator=torch.Generator().manual_seed(0))
TABLE = torch.softmax(torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), -1)


class Subject:
    """Members are given by name."""

    shape, levels = (1, 2, 2), 3

    def __init__(self, **members: Any) -> None:
        for name, member in members.items():
            setattr(self, name, member)


def log_prob(x: Tensor) -> Tensor:
    return TABLE.log()[torch.arange(4), x.flatten(1)].sum(1)


def test_only_members_that_exist_are_offered() -> None:
    model = ForeignModel(Subject(log_prob=log_prob), SPACE)
    offered = {
        name for name in ("log_prob", "conditionals", "sample", "bound", "log_weights", "encode") if can(model, name)
    }
    assert offered == {"log_prob"}
    assert estimate_kind(model) == "exact"
    with pytest.raises(UsageError, match="none of log_prob"):
        ForeignModel(Subject(), SPACE)


@pytest.mark.parametrize("form", ["table", "flat numpy", "categorical", "independent", "pixels", "shaped"])
def test_conditionals_of_every_form_are_one_table(form: str) -> None:
    probs = TABLE.expand(5, 4, 3)
    result = {
        "table": probs,
        "flat numpy": probs.numpy(),
        "shaped": probs.reshape(5, 1, 2, 2, 3),
        "categorical": torch.distributions.Categorical(probs=probs),
        "independent": torch.distributions.Independent(
            torch.distributions.Categorical(probs=probs.reshape(5, 1, 2, 2, 3)), 3
        ),
        "pixels": Categorical(probs.log().reshape(5, 1, 2, 2, 3).movedim(-1, 2)),
    }[form]
    torch.testing.assert_close(conditional_table(result, X, SPACE), probs)
    model: Any = ForeignModel(Subject(conditionals=lambda x: result), SPACE)
    torch.testing.assert_close(model.log_prob(X), log_prob(X))
    torch.testing.assert_close(model.conditionals(X).log_prob(X), log_prob(X))


def test_tables_are_not_normalized() -> None:
    model: Any = ForeignModel(Subject(conditionals=lambda x: 2 * TABLE.expand(5, 4, 3)), SPACE)
    torch.testing.assert_close(model.conditional_table(X).sum(-1), torch.full((5, 4), 2.0, dtype=torch.float64))


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(EvaluationError, match=r"wanted \(N, D, levels\) = \(5, 4, 3\)"):
        conditional_table(TABLE, X, SPACE)
    with pytest.raises(EvaluationError, match="wanted batch shape"):
        conditional_table(torch.distributions.Categorical(probs=TABLE), X, SPACE)
    model: Any = ForeignModel(Subject(log_prob=lambda x: log_prob(x).mean()), SPACE)
    with pytest.raises(EvaluationError, match=r"returned shape \(\) for 5 data; wanted \(5,\)"):
        model.log_prob(X)


def test_data_are_checked() -> None:
    model: Any = ForeignModel(Subject(log_prob=log_prob), SPACE)
    with pytest.raises(SpaceMismatchError):
        model.log_prob(X + 5)


def test_numpy_answers_are_taken() -> None:
    model: Any = ForeignModel(Subject(log_prob=lambda x: np.zeros(len(x), dtype=np.int64)), SPACE)
    assert model.log_prob(X).dtype == torch.float64


def test_bound_is_its_own_at_every_k() -> None:
    def bound(x: Tensor, k: int, generator: torch.Generator) -> Tensor:
        return log_prob(x) - torch.rand(k, len(x), generator=generator, dtype=torch.float64).mean(0)

    model: Any = ForeignModel(Subject(bound=bound), SPACE)
    assert estimate_kind(model) == "bound"
    weights = model.log_weights(X, 3, torch.Generator().manual_seed(0)).total
    assert weights.shape == (3, 5)
    assert torch.equal(weights[0], weights[1])
    # With example noise, a datum's bound does not depend on its batch.
    together = model.log_weights(X, 2, ExampleNoise(0, range(5))).total
    alone = model.log_weights(X[2:3], 2, ExampleNoise(0, [2])).total
    assert torch.equal(together[:, 2:3], alone)


def test_density_alone_is_dequantized_uniformly() -> None:
    def density(y: Tensor) -> Tensor:
        inside = ((y >= 0) & (y < 3)).flatten(1).all(1)
        return torch.where(inside, -4 * math.log(3), -math.inf)

    model: Any = ForeignModel(Subject(density_log_prob=density), SPACE)
    from codelength.data.dataset import Split

    nats = per_example_nats(model, Split(X.numpy()), samples=4).code_length
    np.testing.assert_allclose(nats, 4 * math.log(3), rtol=1e-6)


def test_sampling_is_seeded_with_and_without_a_generator() -> None:
    plain: Any = ForeignModel(Subject(log_prob=log_prob, sample=lambda n: torch.randint(3, (n, 1, 2, 2))), SPACE)
    taking: Any = ForeignModel(
        Subject(log_prob=log_prob, sample=lambda n, generator: torch.randint(3, (n, 1, 2, 2), generator=generator)),
        SPACE,
    )
    for model in (plain, taking):
        before = torch.random.get_rng_state()
        draws = [model.sample(50, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
        assert torch.equal(draws[0], draws[1])
        assert not torch.equal(draws[0], draws[2])
        assert torch.equal(torch.random.get_rng_state(), before)


def test_mode_of_the_object_is_left_alone() -> None:
    class Module(nn.Module):
        shape, levels = (1, 2, 2), 3

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 1)

        def log_prob(self, x: Tensor) -> Tensor:
            return -(self.linear(x.flatten(1).to(self.linear.weight.dtype)).squeeze(1) ** 2)

    module = Module()
    model = ForeignModel(module, SPACE)
    model.eval()
    assert module.training
    assert is_module(model)
    assert model.double().log_prob(X).dtype == torch.float64  # type: ignore[operator]
    assert not is_module(ForeignModel(Subject(log_prob=log_prob), SPACE))


def test_remaining_members_pass_through() -> None:
    subject = Subject(log_prob=log_prob, evaluate=len, encode=lambda x: b"ab", decode=lambda blob, n: [len(blob), n])
    model: Any = ForeignModel(subject, SPACE)
    assert model.evaluate([1, 2, 3]) == 3
    assert model.encode(X) == b"ab"
    assert model.decode(b"abc", 7).tolist() == [3, 7]


def test_declared_spaces() -> None:
    assert declared_space(Subject(space=Space.image(1, 3, 3))) == Space.image(1, 3, 3)
    assert declared_space(Subject(shape=(7,))) == Space("sequence", (7,), 3)
    assert declared_space(Subject(offset=-1)).offset == -1

    class Bare:
        pass

    bare = Bare()
    assert declared_space(bare, SPACE) == SPACE
    with pytest.raises(UsageError, match="no shape"):
        declared_space(bare)
    with pytest.raises(UsageError, match="wanted \\(C, H, W\\)"):
        declared_space(Subject(shape=(1, 2, 3, 4)))
    bare.levels = 3  # type: ignore[attr-defined]
    assert declared_space(bare, SPACE) == SPACE
    with pytest.raises(UsageError, match="no shape"):
        declared_space(bare)


def test_adapt_keeps_our_own() -> None:
    from codelength import build_model

    model = build_model("uniform", SPACE)
    assert adapt(model) is model
    assert isinstance(adapt(Subject(log_prob=log_prob)), ForeignModel)
