"""Regression as likelihood: mean-squared error is a Gaussian with a fixed variance, and the record counts nats a target."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from codelength.data import load_data
from codelength.data.dataset import Split
from codelength.errors import UsageError
from codelength.evaluation import evaluate
from codelength.evaluation.classification import classify
from codelength.models.registry import build_model
from codelength.space import Space
from codelength.training.objective import objective

SPACE = Space("vector", (1,), 400)


def model_of(**options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_model("regression", SPACE, features=10, **options).double()


@pytest.mark.parametrize("deviation", [1.0, 55.0])
@pytest.mark.parametrize("hidden", [[], [7]])
def test_with_fixed_variance_the_gradient_is_that_of_mean_squared_error(deviation, hidden):
    """Up to the factor 1 / (2 σ²), for every parameter; the values differ by that factor and a constant."""
    data = load_data("diabetes").split("train")
    x, features = data.batch(slice(0, 60)), data.condition_batch(slice(0, 60))["features"].double()
    model = model_of(hidden=hidden, scale="fixed", deviation=deviation)
    deviation = float(model.log_deviation.exp())  # as the model holds it
    loss = objective(model, x, torch.Generator(), {"features": features}).mean()
    mine = torch.autograd.grad(loss, list(model.parameters()))
    squared = (x[:, 0] - model.parameters_of(features)[0]).square().mean()
    theirs = torch.autograd.grad(squared, list(model.parameters()))
    for ours, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(ours, other / (2 * deviation**2))
        assert other.abs().max() > 0
    constant = math.log(deviation) + 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(loss, squared / (2 * deviation**2) + constant)


def test_with_a_learned_variance_the_gradient_is_another():
    """The control: mass and learned deviation are not squared error in disguise."""
    data = load_data("diabetes").split("train")
    x, features = data.batch(slice(0, 60)), data.condition_batch(slice(0, 60))["features"].double()
    model = model_of(scale="predicted", deviation=55.0)
    loss = objective(model, x, torch.Generator(), {"features": features}).mean()
    squared = (x[:, 0] - model.parameters_of(features)[0]).square().mean()
    ours, theirs = (torch.autograd.grad(v, model.network[0].weight, retain_graph=True)[0] for v in (loss, squared))
    assert (ours[0] - theirs[0] / (2 * 55.0**2)).abs().max() > 1e-6


def test_the_mass_is_the_density_integrated_over_the_bin():
    """A wide Gaussian's mass is its density at the target; a narrow one's bin holds all."""
    features = torch.zeros(3, 10, dtype=torch.float64)
    x = torch.tensor([[150], [200], [260]])
    for deviation in (30.0, 1e-3):
        model = model_of(scale="fixed", deviation=deviation).eval()
        with torch.no_grad():
            mean, _ = model.parameters_of(features)
            mass = model.log_prob(x, features=features)
            model.network[0].bias.fill_(0)
            sure = model.log_prob(torch.tensor([[200]]), features=features[:1])
        normal = torch.distributions.Normal(mean, deviation)
        if deviation == 30.0:
            torch.testing.assert_close(mass, normal.log_prob(x[:, 0].double()), atol=1e-3, rtol=0)
        else:
            assert sure.exp() == pytest.approx(1)
            assert torch.isfinite(mass).all()


def test_a_record_counts_nats_a_target():
    data = load_data("diabetes")
    record = evaluate(model_of(), data, "validation", model_name="r", family="conditional").record
    assert (record.conditioning, record.condition_bits, record.kind) == (["features"], None, "exact")
    assert (record.num_dims, record.num_examples) == (1, 50)
    split = data.split("validation")
    features = split.condition_batch(slice(None))["features"].double()
    with torch.no_grad():
        nats = -model_of().eval().log_prob(split.batch(slice(None)), features=features).mean().item()
    assert record.nats_per_example == pytest.approx(nats)


def test_wrong_features_and_options_are_refused():
    model = model_of()
    with pytest.raises(UsageError, match=r"wanted real numbers \(B, 10\)"):
        model.log_prob(torch.zeros(2, 1, dtype=torch.long), features=torch.zeros(2, 9))
    with pytest.raises(UsageError, match="did you mean 'gaussian'"):
        model_of(likelihood="gausian")
    with pytest.raises(UsageError, match="deviation=-1"):
        model_of(deviation=-1)
    with pytest.raises(UsageError, match="one target"):
        build_model("regression", Space.image(1, 2, 2), features=3)


def test_bayes_rule_over_a_small_space_is_the_joint_divided_by_the_marginal():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(
            "made", Space.image(1, 2, 2, 3, conditions={"label": 3}), hidden=[8], components=2, class_conditional=True
        ).double()
        for parameter in model.parameters():
            parameter.data.add_(0.4 * torch.randn_like(parameter))
    x, labels, prior = (
        np.random.default_rng(0).integers(0, 3, (30, 1, 2, 2)),
        np.arange(30) % 3,
        np.array([0.5, 0.3, 0.2]),
    )
    found = classify(model.eval(), Split(x, conditions={"label": labels}), prior=prior, batch_size=7)
    with torch.no_grad():
        given = torch.stack(
            [model.log_prob(torch.from_numpy(x), label=torch.full((30,), y)).exp() for y in range(3)], 1
        )
    joint = given.numpy() * prior
    posterior = joint / joint.sum(1, keepdims=True)
    np.testing.assert_allclose(np.exp(found.log_probs), posterior, rtol=1e-9)
    assert found.nats_per_label == pytest.approx(-np.log(posterior[np.arange(30), labels]).mean())
    assert found.accuracy == (posterior.argmax(1) == labels).mean()
    assert found.how == "bayes"
    with pytest.raises(UsageError, match="prior"):
        classify(model, Split(x, conditions={"label": labels}), prior=np.array([0.5, 0.5]))
    with pytest.raises(UsageError, match="neither"):
        classify(build_model("made", Space.image(1, 2, 2, 3), hidden=[4], components=2), Split(x))


def test_a_classifier_s_nats_are_its_log_prob():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = (
            build_model("regression", Space("vector", (1,), 10), features=64, likelihood="categorical").double().eval()
        )
    split = load_data("digits-label").split("validation")
    found = classify(model, split)
    features = split.condition_batch(slice(None))["features"]
    with torch.no_grad():
        nats = -model.log_prob(split.batch(slice(None)), features=features)
    assert found.how == "direct"
    assert found.nats_per_label == pytest.approx(nats.mean().item())
    np.testing.assert_allclose(np.exp(found.log_probs).sum(1), 1)
