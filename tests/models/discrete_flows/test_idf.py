"""Integer discrete flows: permutations of the space, exact masses, priors, gradients."""

from __future__ import annotations

import itertools

import pytest
import torch

from codelength import IDF, Space
from codelength.errors import UsageError
from codelength.models.discrete_flows.steps import Couple, Permute, Squeeze, plan
from codelength.models.discrete_flows.straight_through import straight_through_modulo, straight_through_round

GREY = Space.image(1, 2, 2, 3, offset=-1)
NET = {"scales": 1, "growth": 4, "layers": 1, "components": 2}
KINDS = {
    "lifting": {"pattern": "lifting", "factoring": "chain"},
    "paper": {"pattern": "random", "factoring": "half"},
    "idf++": {"pattern": "restore", "factoring": "half", "rezero": True, "activation": "swish", "group_norm": True},
    "background": {"background": True},
}


def random_flow(space=GREY, seed=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = IDF(space, **{**NET, **options}).double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
    return model.eval()


def everything(space):
    values = itertools.product(range(space.offset, space.offset + space.levels), repeat=space.num_dims)
    return torch.tensor(list(values)).unflatten(1, space.sizes)


def flat(parts):
    return torch.cat([part.flatten(1) for part in parts], dim=1)


def train(model, steps=30):
    x = everything(model.space)[::3]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        loss = -model.log_prob(x).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("learned", [False, True])
def test_masses_sum_to_one_and_the_flow_permutes_the_space(options, learned):
    model, x = random_flow(**options), everything(GREY)
    if learned:
        before = -model.log_prob(x[::3]).mean().item()
        assert train(model) < before
    with torch.no_grad():
        assert float(model.log_prob(x).exp().sum()) == pytest.approx(1, abs=1e-9)
    z = flat(model.latents(x))
    assert len(z.unique(dim=0)) == len(x)
    assert (int(z.min()), int(z.max())) == (0, 2)
    assert torch.equal(model.from_latents(model.latents(x)), x)
    # The identity alone, up to the order of pixels, would be no flow.
    still = IDF(GREY, **{**NET, **options, "couplings": 0})
    if options["pattern" if "pattern" in options else "background"] in ("lifting", True):
        assert not torch.equal(z, flat(still.latents(x)))


def test_without_wrapping_the_integers_are_permuted_and_mass_lies_outside_the_data():
    model, x = random_flow(wrap=False, couplings=1, translation_scale=0.5), everything(GREY)
    z = model.latents(x)
    assert len(flat(z).unique(dim=0)) == len(x)
    assert int(flat(z).min()) < 0 or int(flat(z).max()) > 2
    assert torch.equal(model.from_latents(z), x)
    with torch.no_grad():
        inside = float(model.log_prob(x).exp().sum())
        assert 0 < inside < 1
        # All latents, -2 .. 4 for each of four dims, have mass one: each group under its prior.
        span = torch.arange(model.size)
        every = torch.cartesian_prod(span, span, span, span)
        total = torch.zeros(len(every), dtype=torch.float64)
        parts = [every[:, i].view(-1, 1, 1, 1).double() for i in range(4)]  # in the order of leaving
        kept = list(reversed(parts))
        for index, prior in enumerate(model.priors):
            before = torch.cat(kept[: 3 - index], dim=1) if index < 3 else None
            total += prior.log_prob(parts[index], before).flatten(1).sum(1)
        assert float(total.exp().sum()) == pytest.approx(1, abs=1e-9)
    back = model.from_latents([part - model.margin for part in map(torch.Tensor.long, kept)])
    assert torch.equal(
        flat(model_latents(model, back)) + model.margin, torch.cat([p.long().flatten(1) for p in kept], dim=1)
    )


def model_latents(model, x):
    """Latents of any integers: `latents` refuses those that are no data."""
    return [part.z.long() - model.margin for part in reversed(list(model.leaving(x - model.space.offset)))]


def test_a_translation_that_is_not_undone_breaks_the_inverse():
    model, x = random_flow(), everything(GREY)
    z = model.latents(x)
    walk = model.translation
    model.translation = lambda index, free: walk(index, free) + (index == 0)  # type: ignore[method-assign]
    assert not torch.equal(model.from_latents(z), x)


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_coded_distributions_give_the_models_mass(options):
    space = Space.image(3, 4, 4, 256)
    model = random_flow(space, scales=2, **options)
    x = torch.randint(256, (3, 3, 4, 4), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        total = sum(d.log_prob(v).flatten(1).sum(1) for d, v in model.coded(x))
        torch.testing.assert_close(total, model.log_prob(x))
    assert sum(part[0].numel() for part in model.latents(x)) == 48


def test_steps_are_bijections_of_channels():
    x = torch.arange(2 * 3 * 4 * 6).view(2, 3, 4, 6)
    z = Squeeze().forward(x)
    assert z.shape == (2, 12, 2, 3)
    assert torch.equal(Squeeze().inverse(z), x)
    assert z[0, :, 0, 0].tolist() == [0, 24, 48, 7, 31, 55, 1, 25, 49, 6, 30, 54]
    permute = Permute((2, 0, 1))
    assert torch.equal(permute.inverse(permute.forward(x)), x)


def test_every_channel_is_moved_by_some_coupling():
    for pattern in ("random", "restore", "lifting"):
        steps = plan((1, 4, 4), scales=1, couplings=16, pattern=pattern, factoring="chain", seed=0)
        place, moved = list(range(4)), set()
        for step in steps:
            if isinstance(step, Permute):
                place = [place[i] for i in step.order]
            if isinstance(step, Couple):
                assert sorted(step.free + step.moved) == list(range(4))
                moved |= {place[i] for i in step.moved}
        assert moved == set(range(4))
        assert (place == list(range(4))) == (pattern != "random")


def test_empty_images_do_not_move_with_background():
    space = Space.image(1, 8, 8, 256)
    model = random_flow(space, scales=2, background=True)
    assert int(flat(model.latents(torch.zeros(1, 1, 8, 8, dtype=torch.long))).abs().max()) == 0
    moved = random_flow(space, scales=2)
    assert int(flat(moved.latents(torch.zeros(1, 1, 8, 8, dtype=torch.long))).abs().max()) > 0


def test_gradients_pass_straight_through():
    x = torch.tensor([0.4, 2.6, -0.7], requires_grad=True)
    y = straight_through_modulo(straight_through_round(x), 3)
    assert y.tolist() == [0, 0, 2]
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.tolist() == [1, 1, 1]
    model = random_flow()
    (-model.log_prob(everything(GREY)).mean()).backward()
    assert all(float(p.grad.abs().max()) > 0 for p in model.translations.parameters())


def test_samples_have_the_models_frequencies():
    space = Space.image(1, 2, 2, 2)
    model = random_flow(space)
    drawn = model.sample(4000, torch.Generator().manual_seed(0)).flatten(1)
    counts = torch.bincount((drawn * torch.tensor([8, 4, 2, 1])).sum(1), minlength=16).double() / 4000
    masses = model.log_prob(everything(space)).exp().detach()
    assert bool(((counts - masses).abs() < 5 * (masses * (1 - masses) / 4000).sqrt() + 1e-3).all())


def test_wrong_options_are_refused():
    for options in (
        {"scales": 2},
        {"scales": 0},
        {"pattern": "checkerboard"},
        {"factoring": "thirds"},
        {"activation": "gelu"},
    ):
        with pytest.raises(UsageError):
            IDF(GREY, **{**NET, **options})
    with pytest.raises(UsageError, match="choose discrete_flow"):
        IDF(Space("sequence", (4,), 3))
