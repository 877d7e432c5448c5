"""Modular flows: permutations of the space, causality, gradients, recovery of what a factorized base cannot model."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from codelength import Space
from codelength.data.synthetic import entropy_nats
from codelength.errors import UsageError
from codelength.models.discrete_flows.discrete_flow import DiscreteFlow
from codelength.models.discrete_flows.modular import (
    inverse_residue,
    invertible_residues,
    one_hot_to_latent,
    to_data,
    to_latent,
)
from codelength.models.discrete_flows.straight_through import straight_through_one_hot

SPACES = [Space("vector", (3,), 5, offset=-1), Space("sequence", (4,), 4), Space.image(1, 2, 2, 3)]
OPTIONS = {
    "autoregressive": {"flow": "autoregressive", "layers": 2},
    "autoregressive-base": {"flow": "autoregressive", "layers": 1, "base": "autoregressive"},
    "bipartite": {"flow": "bipartite", "layers": 3},
    "lstm": {"flow": "autoregressive", "network": "sequence"},
    "convolutions": {"flow": "bipartite", "network": "sequence", "kernel": 3, "base": "autoregressive"},
}


def random_flow(space, seed=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = DiscreteFlow(space, hidden=[12], **options).double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
    return model.eval()


def everything(space):
    values = itertools.product(range(space.levels), repeat=space.num_dims)
    return torch.tensor(list(values)).unflatten(1, space.sizes) + space.offset


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.kind)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_masses_sum_to_one_and_the_flow_permutes_the_space(space, options):
    model, x = random_flow(space, **options), everything(space)
    with torch.no_grad():
        assert float(model.log_prob(x).exp().sum()) == pytest.approx(1, abs=1e-9)
    z = model.latents(x)
    assert len(z.unique(dim=0)) == len(x)
    assert not torch.equal(z, x.flatten(1) - space.offset)
    assert torch.equal(model.from_latents(z), x)
    latents = everything(Space("vector", (space.num_dims,), space.levels))
    assert torch.equal(model.latents(model.from_latents(latents)), latents)


def test_a_scale_without_an_inverse_would_not_permute():
    z = torch.arange(6)
    assert len(to_data(z, torch.tensor(2), torch.tensor(5), 6).unique()) == 6
    assert len(to_data(z, torch.tensor(2), torch.tensor(4), 6).unique()) == 3  # what `invertible_residues` leaves out


@pytest.mark.parametrize("modulus", [2, 3, 8, 10, 27])
def test_residues_and_their_inverses(modulus):
    scales = invertible_residues(modulus)
    assert len(scales) == sum(math.gcd(s, modulus) == 1 for s in range(modulus))
    assert bool(((scales * inverse_residue(scales, modulus)) % modulus == 1).all())
    with pytest.raises(ValueError, match="modulus 1"):
        invertible_residues(1)


def test_one_hot_map_is_the_map_of_integers():
    modulus, generator = 10, torch.Generator().manual_seed(0)
    scales = invertible_residues(modulus)
    x, location = (torch.randint(modulus, (50,), generator=generator) for _ in range(2))
    index = torch.randint(len(scales), (50,), generator=generator)
    hot = one_hot_to_latent(
        F.one_hot(x, modulus).double(),
        F.one_hot(location, modulus).double(),
        F.one_hot(index, len(scales)).double(),
        modulus,
    )
    expected = to_latent(x, location, scales[index], modulus)
    assert torch.equal(hot.argmax(-1), expected)
    assert torch.equal(to_data(expected, location, scales[index], modulus), x)


def test_gradient_is_that_of_the_softmax():
    logits = torch.tensor([[0.3, -0.2, 0.1]], dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
    hard = straight_through_one_hot(logits, 0.5)
    assert hard.tolist() == [[1, 0, 0]]
    (gradient,) = torch.autograd.grad((hard * weight).sum(), logits)
    (expected,) = torch.autograd.grad((torch.softmax(logits / 0.5, -1) * weight).sum(), logits)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("network", ["mlp", "sequence"])
def test_autoregressive_layers_are_causal(network):
    model = random_flow(Space("sequence", (5,), 4), flow="autoregressive", layers=2, network=network)
    first, second = model.stack
    x = torch.randint(4, (20, 5), generator=torch.Generator().manual_seed(1))
    for layer, reverse in ((first, False), (second, True)):
        for site in range(5):
            changed = x.clone()
            changed[:, site] = (x[:, site] + 1) % 4
            moved = (
                (layer.logits(F.one_hot(changed, 4).double())[0] != layer.logits(F.one_hot(x, 4).double())[0])
                .any(-1)
                .any(0)
            )
            allowed = torch.arange(5) < site if reverse else torch.arange(5) > site
            assert bool((moved == allowed).all())


def trained(table, steps=150, **options):
    levels, dims = table.shape[0], table.ndim
    x = everything(Space.image(1, 1, dims, levels))
    masses = torch.from_numpy(table.ravel())
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = DiscreteFlow(Space.image(1, 1, dims, levels), hidden=[48], **options).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    for _ in range(steps):
        loss = -(masses * model.log_prob(x)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return model, x, float(-(masses * model.log_prob(x)).sum())


def test_a_trained_flow_recovers_what_a_factorized_base_cannot():
    """x_2 = s(x_1) · u with a skewed u and every scale: a scale gives it exactly, a product of marginals never, locations alone not."""
    skewed = torch.tensor([0.7, 0.2, 0.05, 0.03, 0.02], dtype=torch.float64)
    table = torch.zeros(5, 5, dtype=torch.float64)
    for first, scale in enumerate([1, 2, 3, 4, 2]):
        for u in range(5):
            table[first, (scale * u) % 5] = skewed[u] / 5
    entropy = entropy_nats(table.numpy())
    _, _, factorized = trained(table.numpy(), layers=0)
    flow, x, nats = trained(table.numpy(), flow="autoregressive", layers=1)
    _, _, locations = trained(table.numpy(), flow="autoregressive", layers=1, scales=False)
    assert factorized > entropy + 0.05
    assert locations > entropy + 0.05
    assert nats < entropy + 0.02
    (_, scales, _) = flow.layer_parameters(x)[0]
    assert bool((scales[:, 1] != 1).any())
    z = flow.latents(x)
    assert len(z.unique(dim=0)) == len(x)
    assert not torch.equal(z, x.flatten(1))
    assert torch.equal(flow.from_latents(z), x)
    assert flow.log_prob(x).exp().sum().item() == pytest.approx(1, abs=1e-9)


def test_samples_have_the_models_frequencies():
    space = Space("vector", (2,), 3)
    model = random_flow(space, flow="autoregressive", base="autoregressive")
    drawn = model.sample(4000, torch.Generator().manual_seed(0))
    counts = torch.bincount(drawn[:, 0] * 3 + drawn[:, 1], minlength=9).double() / 4000
    masses = model.log_prob(everything(space)).exp().detach()
    error = (masses * (1 - masses) / 4000).sqrt()
    assert bool(((counts - masses).abs() < 5 * error + 1e-3).all())


def test_wrong_options_are_refused():
    for options in ({"flow": "planar"}, {"base": "normal"}, {"network": "rnn"}, {"layers": -1}, {"temperature": 0.0}):
        with pytest.raises(UsageError):
            DiscreteFlow(SPACES[0], **options)
