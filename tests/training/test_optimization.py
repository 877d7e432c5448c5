import itertools
import math

import pytest
import torch
from torch import nn

from codelength.errors import CheckpointError
from codelength.recipe import TrainingConfig
from codelength.training.optimization import Optimizer, WeightAverage, learning_rate


def test_warm_up_reaches_the_peak_and_decay_the_end():
    for decay, middle in {
        "cosine": 1.1 / 2,
        "linear": 1.1 / 2,
        "exponential": math.sqrt(0.1),
        "constant": 1.0,
    }.items():
        config = TrainingConfig(steps=110, learning_rate=1, final_learning_rate=0.1, warmup_steps=10, decay=decay)
        rates = [learning_rate(config, step) for step in range(1, 111)]
        assert rates[:10] == pytest.approx([0.1 * s for s in range(1, 11)])
        assert rates[59] == pytest.approx(middle)
        assert rates[-1] == pytest.approx(1 if decay == "constant" else 0.1)
        assert all(a >= b for a, b in itertools.pairwise(rates[9:]))


def test_short_runs_have_a_rate():
    assert learning_rate(TrainingConfig(steps=1), 1) == 1e-3
    assert learning_rate(TrainingConfig(steps=5, warmup_steps=100), 5) == pytest.approx(5e-5)


@pytest.mark.parametrize("name", ["adamw", "adamax"])
def test_weight_decay_is_decoupled_and_spares_vectors(name):
    layer = nn.Linear(3, 2)
    before = layer.weight.detach().clone(), layer.bias.detach().clone()
    optimizer = Optimizer(layer, TrainingConfig(optimizer=name, weight_decay=0.1))
    for p in layer.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step(0.5)
    # A zero gradient: only the decay moves the weights, by 1 − rate * decay.
    assert torch.allclose(layer.weight, before[0] * (1 - 0.5 * 0.1))
    assert torch.equal(layer.bias, before[1])


def test_torch_adamax_alone_would_couple_the_decay():
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = torch.optim.Adamax([weight], lr=0.5, weight_decay=0.1)
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    assert not torch.allclose(weight, torch.ones(2, 2) * (1 - 0.5 * 0.1))


@pytest.mark.parametrize("name", ["adamw", "adamax"])
def test_first_step_moves_by_the_rate_against_the_sign(name):
    weight = nn.Linear(4, 4, bias=False)
    before = weight.weight.detach().clone()
    optimizer = Optimizer(weight, TrainingConfig(optimizer=name))
    weight.weight.grad = torch.linspace(-1, 1, 16).reshape(4, 4)
    optimizer.step(0.01)
    assert torch.allclose(weight.weight, before - 0.01 * torch.linspace(-1, 1, 16).reshape(4, 4).sign(), atol=1e-6)
    assert weight.weight.grad is None


def train(model, optimizer, steps):
    for step in steps:
        x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(step))
        model(x).square().mean().backward()
        optimizer.clip()
        optimizer.step(0.01)


@pytest.mark.parametrize("name", ["adamw", "adamax"])
def test_restored_state_goes_on_bit_for_bit_in_channels_last(name):
    torch.manual_seed(0)
    config = TrainingConfig(optimizer=name, weight_decay=0.1, clip_norm=0.5)

    def build():
        return nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).to(memory_format=torch.channels_last)

    model = build()
    optimizer = Optimizer(model, config)
    train(model, optimizer, range(3))
    saved = {k: v.clone() for k, v in model.state_dict().items()}
    # As a file would give them: contiguous, whatever the memory format was.
    state = {k: v.detach().contiguous().clone() for k, v in optimizer.tensors().items()}
    assert {k.rpartition("/")[2] for k in state} == {"step", "exp_avg", "exp_avg_sq" if name == "adamw" else "exp_inf"}
    train(model, optimizer, range(3, 6))

    again = build()
    again.load_state_dict(saved)
    restored = Optimizer(again, config)
    restored.load(state)
    train(again, restored, range(3, 6))
    for a, b in zip(model.parameters(), again.parameters()):
        assert torch.equal(a, b)

    control = build()
    control.load_state_dict(saved)
    train(control, Optimizer(control, config), range(3, 6))  # without the moments it ends elsewhere
    assert not torch.equal(next(control.parameters()), next(model.parameters()))


def test_state_of_another_architecture_is_refused():
    state = {"weight/exp_avg": torch.zeros(2, 3)}
    optimizer = Optimizer(nn.Linear(2, 2), TrainingConfig())
    with pytest.raises(CheckpointError, match=r"weight/exp_avg of shape \(2, 3\)"):
        optimizer.load(state)
    with pytest.raises(CheckpointError, match="other/exp_avg"):
        optimizer.load({"other/exp_avg": torch.zeros(2)})


def test_clipping_gives_the_norm_before_and_scales_to_the_limit():
    layer = nn.Linear(2, 2)
    for limit, after in ((1.0, 1.0), (100.0, 5.0), (None, 5.0)):
        layer.weight.grad = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
        norm = Optimizer(layer, TrainingConfig(clip_norm=limit)).clip()
        assert float(norm) == pytest.approx(5)
        assert float(layer.weight.grad.norm()) == pytest.approx(after, rel=1e-5)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.norm = nn.Linear(2, 2), nn.Linear(2, 2), nn.BatchNorm1d(2)
        self.b.weight = self.a.weight


def test_average_follows_parameters_and_buffers_each_once():
    model, average = Tied(), Tied()
    average.load_state_dict(model.state_dict())
    ema = WeightAverage(average, model, 0.9)
    expected, mean = model.a.weight.detach().clone(), model.norm.running_mean.clone()
    for step in range(1, 120):
        with torch.no_grad():
            model.a.weight += 1
            model.norm.running_mean += 2
            model.norm.num_batches_tracked += 1
        ema.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.a.weight.detach()
        mean = decay * mean + (1 - decay) * model.norm.running_mean
    assert torch.allclose(average.a.weight, expected, rtol=1e-5)
    assert torch.allclose(average.norm.running_mean, mean, rtol=1e-5)
    assert int(average.norm.num_batches_tracked) == 119
    assert not average.a.weight.requires_grad or average.a.weight.grad is None


def test_average_sees_a_buffer_that_was_replaced():
    model, average = Tied(), Tied()
    ema = WeightAverage(average, model, 0.9)
    model.norm.running_mean = torch.full((2,), 11.0)
    ema.update(1)
    assert torch.allclose(average.norm.running_mean, torch.full((2,), 11.0 * (1 - 2 / 11)))


class MuonNet(nn.Module):
    """One matrix for Muon, one too narrow for it, and vectors."""

    def __init__(self):
        super().__init__()
        self.wide, self.narrow = nn.Linear(64, 80), nn.Linear(80, 3)

    def forward(self, x):
        return self.narrow(self.wide(x).relu())


def test_muon_steps_are_orthogonal_where_matrices_are_large():
    torch.manual_seed(0)
    net = MuonNet()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = Optimizer(net, TrainingConfig(optimizer="muon", learning_rate=1e-3, muon_learning_rate=0.02))
    net(torch.randn(16, 64)).square().mean().backward()
    optimizer.step(5e-4)  # half of the peak, so half of Muon's rate too
    singular = torch.linalg.svdvals(before["wide.weight"] - net.wide.weight.detach())
    # Rank 16 at most from 16 data; Newton-Schulz brings those to about 1, times rate and sqrt(80 / 64).
    step = 0.5 * 0.02 * (80 / 64) ** 0.5
    assert torch.all((singular[:3] > 0.5 * step) & (singular[:3] < 1.5 * step))
    assert torch.allclose((before["narrow.weight"] - net.narrow.weight).abs(), torch.tensor(5e-4), atol=1e-5)


def test_muon_state_is_restored_bit_for_bit():
    def run(optimizer, net, steps):
        for step in steps:
            net(torch.randn(16, 64, generator=torch.Generator().manual_seed(step))).square().mean().backward()
            optimizer.step(1e-3)

    torch.manual_seed(0)
    config = TrainingConfig(optimizer="muon", weight_decay=0.1)
    net = MuonNet()
    optimizer = Optimizer(net, config)
    run(optimizer, net, range(3))
    saved = {k: v.clone() for k, v in net.state_dict().items()}
    state = {k: v.detach().contiguous().clone() for k, v in optimizer.tensors().items()}
    run(optimizer, net, range(3, 6))
    again = MuonNet()
    again.load_state_dict(saved)
    restored = Optimizer(again, config)
    restored.load(state)
    run(restored, again, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters()))


def test_muon_without_matrices_is_adamw():
    layer = nn.Linear(4, 4)
    optimizer = Optimizer(layer, TrainingConfig(optimizer="muon"))
    layer(torch.ones(1, 4)).sum().backward()
    optimizer.step(0.01)
    assert {k.rpartition("/")[2] for k in optimizer.tensors()} == {"step", "exp_avg", "exp_avg_sq"}
