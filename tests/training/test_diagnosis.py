import pytest
import torch
from torch import nn

from codelength.training.diagnosis import first_non_finite, non_finite_error


class Layer(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def network(function):
    return nn.Sequential(nn.Linear(2, 2), Layer(function), nn.Linear(2, 2))


def loss_of(model):
    return lambda: model(torch.ones(1, 2)).square().sum()


@pytest.mark.parametrize(
    "wrap",
    [lambda x: x / 0, lambda x: x * float("nan"), lambda x: [x, {"key": (x / 0,)}], lambda x: (None, x - float("inf"))],
)
def test_first_layer_with_a_non_finite_output(wrap):
    model = network(wrap)
    model[2] = Layer(lambda x: x if isinstance(x, torch.Tensor) else torch.tensor(float("nan")))
    assert first_non_finite(model, loss_of(model)) == "the first layer with a non-finite output is 1 (Layer)"
    assert not model[1]._forward_hooks


def test_first_layer_with_a_non_finite_gradient():
    model = network(lambda x: x + (x * 0).sqrt())
    assert "non-finite gradient of its output is 0 (Linear)" in first_non_finite(model, loss_of(model))


def test_parameter_loss_and_machine():
    model = network(lambda x: x)
    assert "not deterministic" in first_non_finite(model, loss_of(model))
    assert "likelihood of Sequential" in first_non_finite(model, lambda: loss_of(model)() / 0)
    weight = nn.ParameterList([torch.zeros(2)])
    assert "first parameter with a non-finite gradient is 0" in first_non_finite(weight, lambda: weight[0].sqrt().sum())
    with torch.no_grad():
        model[2].bias[0] = float("nan")
    assert "parameter 2.bias was already" in first_non_finite(model, loss_of(model))


def test_the_error_names_step_and_number():
    model = network(lambda x: x / 0)
    assert str(non_finite_error(7, float("nan"), 1.0, model, loss_of(model))).startswith(
        "step 7: the loss is nan; the first"
    )
    assert "gradient norm is inf" in str(non_finite_error(7, 1.0, float("inf"), model, loss_of(model)))
