"""Glow: its step against normflows, its class, its parameter count; what holds of all flows is in test_flows.py."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from codelength.errors import UsageError
from codelength.models.base import num_parameters
from codelength.models.flows.glow import Glow, glow_step
from codelength.models.registry import build_model
from codelength.recipe import load_recipe
from codelength.space import Space
from codelength.transforms import Affine, Compose

LABELLED = Space.image(1, 4, 4, 5, conditions={"label": 3})


@pytest.mark.filterwarnings("ignore:torch.lu is deprecated")
def test_the_step_agrees_with_normflows(randomize) -> None:
    """Equal weights copied in. normflows interleaves shift and scale and subtracts the shift; Glow has no floor."""
    normflows = pytest.importorskip("normflows")
    theirs = randomize(normflows.flows.GlowBlock(6, 8, scale_map="sigmoid", leaky=0.0), scale=0.3).double()
    coupling, mixing, norm = theirs.flows
    ours = Compose(glow_step(6, 8, Affine(floor=0))).double()
    act_norm, conv, split = ours.transforms
    network, net = split.network, coupling.flows[1].param_map.net
    layers = [layer for layer in net if isinstance(layer, nn.Conv2d)]
    with torch.no_grad():
        act_norm.log_scale.copy_(-norm.s.flatten())
        act_norm.bias.copy_(-norm.t.flatten())
        conv.lower.copy_(mixing.L)
        conv.upper.copy_(mixing.U)
        conv.log_scale.copy_(mixing.log_S)
        conv.sign.copy_(mixing.sign_S)
        conv.permutation.copy_(mixing.P.argmax(1))
        for layer, source in zip((network.first, network.second), layers, strict=False):
            layer.weight.copy_(source.weight)
            layer.bias.copy_(source.bias)
            layer.log_scale.zero_()
        order = [1, 3, 5, 0, 2, 4]
        sign = torch.tensor([1.0] * 3 + [-1.0] * 3, dtype=torch.float64)
        network.last.weight.copy_(layers[2].weight[order] * sign[:, None, None, None])
        network.last.bias.copy_(layers[2].bias[order] * sign)
        network.last.log_scale.zero_()
    norm.data_dep_init_done.fill_(1.0)
    x = torch.randn(4, 6, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        for got, wanted in zip(ours(x), theirs.inverse(x), strict=True):
            torch.testing.assert_close(got, wanted, atol=1e-10, rtol=1e-10)
        network.last.bias[:3] += 0.1
        assert (ours(x)[1] - theirs.inverse(x)[1]).abs().min() > 1e-3, "another scale would be seen"


def test_the_label_changes_density_and_samples(randomize) -> None:
    model = randomize(Glow(LABELLED, scales=1, depth=2, filters=4, class_conditional=True), scale=0.5).double()
    y = 5 * torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        values = torch.stack([model.log_prob(y, label=torch.full((3,), c)) for c in range(3)])
        assert (values[0] - values[1]).abs().min() > 1e-3
        label = torch.tensor([1])
        draws = [model.sample(1, torch.Generator().manual_seed(1), label=torch.tensor([c])) for c in range(2)]
        assert not torch.allclose(*draws)
        back = model.inverse(model.latents(y[:1], label=label), label=label)
    torch.testing.assert_close(back, y[:1])
    with pytest.raises(UsageError, match="label"):
        model.log_prob(y)
    with pytest.raises(UsageError, match="labels"):
        build_model("glow", Space.image(1, 4, 4), scales=1, class_conditional=True)


def test_impossible_options_are_named() -> None:
    for options, message in (
        ({"scales": 3}, "multiples of 8"),
        ({"filters": [4, 4, 4]}, "one for each scale"),
        ({"coupling": "afine"}, "did you mean 'affine'"),
        ({"preprocessing": "logits"}, "did you mean 'logit'"),
    ):
        with pytest.raises(UsageError, match=message):
            build_model("glow", Space.image(1, 28, 28), **options)


def test_the_papers_cifar10_model_has_44_million_parameters() -> None:
    recipe = load_recipe("cifar10-glow-paper")
    with torch.device("meta"):
        model = build_model("glow", Space.image(3, 32, 32), **recipe.model.options)
    count = num_parameters(model)
    assert recipe.published_parameters == 44e6
    assert abs(count / recipe.published_parameters - 1) < 0.01
    couplings = {
        channels: 9 * (channels // 2) * 512 + 512**2 + 9 * 512 * channels + 2 * (2 * 512 + channels)
        for channels in (12, 24, 48)
    }
    steps = 32 * sum(count + 2 * c**2 + c + 2 * c for c, count in couplings.items())
    split_priors = sum(9 * (c // 2) * c + 2 * c for c in (12, 24))
    assert count == steps + split_priors + 2 * 48
