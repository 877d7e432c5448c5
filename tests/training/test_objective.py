import pytest
import torch

from codelength.errors import UsageError
from codelength.models.base import LikelihoodModel, LogWeights
from codelength.space import Space
from codelength.training import objective

SPACE = Space.image(1, 2, 2, levels=2)
X = torch.ones(3, 1, 2, 2, dtype=torch.long)


def model_with(**members):
    model = LikelihoodModel(SPACE)
    for name, member in members.items():
        setattr(model, name, member)
    return model


def log_prob(x):
    return -x.flatten(1).sum(1).float()


def log_weights(x, k, generator):
    return LogWeights({"a": torch.full((k, len(x)), -2.0), "b": torch.full((k, len(x)), -3.0)})


def expected_log_prob(intensity):
    return -7 * torch.ones(len(intensity))


def own(x, generator):
    return 11 * torch.ones(len(x))


@pytest.mark.parametrize(
    ("members", "nats"),
    [
        ({"log_prob": log_prob}, 4.0),
        ({"log_weights": log_weights}, 5.0),
        ({"log_prob": log_prob, "log_weights": log_weights}, 4.0),
        ({"log_prob": log_prob, "training_objective": own}, 11.0),
        ({"log_prob": log_prob, "expected_log_prob": expected_log_prob}, 4.0),
    ],
)
def test_order_of_preference(members, nats):
    values = objective(model_with(**members), X, torch.Generator())
    assert torch.equal(values, torch.full((3,), nats))


def test_dynamic_binarization_takes_the_expectation_or_draws():
    intensity = torch.full((5000, 1, 2, 2), 0.3)
    x = torch.zeros(5000, 1, 2, 2, dtype=torch.long)
    expected = model_with(log_prob=log_prob, expected_log_prob=expected_log_prob)
    assert objective(expected, x, torch.Generator(), intensity=intensity).unique().tolist() == [7.0]
    # −log P counts the ones: Binomial(4, 0.3), mean 1.2, variance 0.84.
    drawn = [
        objective(model_with(log_prob=log_prob), x, torch.Generator().manual_seed(s), intensity=intensity)
        for s in (0, 1)
    ]
    assert abs(float(drawn[0].mean()) - 1.2) < 5 * (0.84 / 5000) ** 0.5
    assert not torch.equal(*drawn)
    own_first = model_with(training_objective=own, expected_log_prob=expected_log_prob)
    assert objective(own_first, x, torch.Generator(), intensity=intensity).unique().tolist() == [11.0]


def test_conditions_reach_the_model():
    model = model_with(log_prob=lambda x, label: -label.float())
    assert objective(model, X, torch.Generator(), {"label": torch.arange(3)}).tolist() == [0, 1, 2]


def test_a_model_without_an_answer_is_refused():
    with pytest.raises(UsageError, match="none of training_objective, log_prob and log_weights"):
        objective(model_with(), X, torch.Generator())
