"""Context tables: normalization by enumeration, causality, steps, samples, and the values they are known for."""

from __future__ import annotations

import itertools
import math
import time

import pytest
import torch

from codelength import Space, bits_per_dim, build_model
from codelength.data import load_data
from codelength.data.official import is_here
from codelength.errors import SpaceMismatchError, UsageError
from codelength.models.autoregressive.stepwise import score_stepwise
from codelength.models.baselines.contexts import bin_borders, neighbour_index
from codelength.run import load_tensors, load_weights, save_tensors

GREY = Space.image(1, 2, 2, 3)
COLOUR = Space.image(2, 1, 3, 3)
MODELS = [
    (GREY, {"rule": "neighbours"}),
    (GREY, {"rule": "predictor", "classes": 4}),
    (COLOUR, {"rule": "neighbours"}),
    (COLOUR, {"rule": "predictor", "classes": 4}),
]


def _data(space, count=60, seed=0):
    """Images whose neighbours and channels resemble each other."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn(count, *space.sizes, generator=generator).cumsum(2).cumsum(3)
    steps[:, 1:] = steps[:, :1] + 0.3 * steps[:, 1:]
    return (torch.sigmoid(steps) * space.levels).long().clamp(max=space.levels - 1) + space.offset


def _fitted(space, options, seed=0):
    model = build_model("context_table", space, **options)
    model.fit(_data(space, seed=seed))
    return model


@pytest.mark.parametrize(("space", "options"), MODELS)
def test_masses_sum_to_one_also_after_save_and_load(space, options, tmp_path):
    images = torch.tensor(list(itertools.product(range(3), repeat=space.num_dims))).view(-1, *space.sizes)
    model = _fitted(space, options)
    assert model.log_prob(images).exp().sum() == pytest.approx(1, abs=1e-12)
    save_tensors(model.state_dict(), tmp_path / "m.safetensors")
    again = build_model("context_table", space, **options)
    load_weights(again, load_tensors(tmp_path / "m.safetensors"), "m")
    assert (again.to(torch.float32).log_prob(images) == model.log_prob(images)).all()


@pytest.mark.parametrize("levels", [2, 3, 17, 256, 300])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_conditional_sums_to_one(levels, channels):
    space = Space.image(channels, 5, 6, levels)
    model = _fitted(space, {})
    x = _data(space, 3, seed=1)
    distribution = model.conditionals(x)
    for c in range(channels):
        probs = distribution.channel(c, x[:, :c]).probs()
        assert probs.shape == (3, 5, 6, levels)
        assert (probs.sum(-1) - 1).abs().max() < 1e-12
        assert probs.min() > 0
        picked = probs.gather(-1, x[:, c].unsqueeze(-1)).squeeze(-1).log()
        assert torch.allclose(picked, distribution.channel(c, x[:, :c]).log_prob(x[:, c]), atol=1e-12)


@pytest.mark.parametrize(
    ("space", "options"),
    [
        (Space.image(1, 5, 6, 17), {"rule": "neighbours"}),
        (Space.image(1, 5, 6, 17), {"rule": "predictor"}),
        (Space.image(3, 5, 6, 64, offset=-10), {}),
        (Space.image(2, 4, 1, 5), {"rule": "neighbours"}),
    ],
)
def test_steps_agree_with_the_parallel_pass(space, options):
    model = _fitted(space, options)
    x = _data(space, 7, seed=1)
    assert score_stepwise(model, x).tolist() == pytest.approx(model.log_prob(x).tolist(), abs=1e-10)
    sites = torch.cat([p.rows * space.sizes[2] + p.columns for p in model.schedule])
    assert sites.sort().values.tolist() == list(range(space.sizes[1] * space.sizes[2]))


@pytest.mark.parametrize("options", [{"rule": "neighbours"}, {"rule": "predictor"}])
def test_causality_and_reach(options):
    """A dim's conditional changes with W, N, NE and the channels before, never with itself or what comes after."""
    space = Space.image(3, 4, 5, 32)
    model = _fitted(space, options)
    x = _data(space, 1, seed=1)

    def table(image):
        d = model.conditionals(image)
        return torch.stack([d.channel(c, image[:, :c]).probs() for c in range(3)])[:, 0]  # (C, H, W, levels)

    before = table(x)
    reached = torch.zeros(3, 4, 5, 3, 4, 5, dtype=torch.bool)
    for c, i, j in itertools.product(range(3), range(4), range(5)):
        for value in (0, 31):
            changed = x.clone()
            changed[0, c, i, j] = value
            reached[c, i, j] |= (table(changed) != before).any(-1)
    for c, i, j in itertools.product(range(3), range(4), range(5)):
        later = torch.zeros(3, 4, 5, dtype=torch.bool)
        later[:, i, j + 1 :] = True
        later[:, i + 1 :] = True
        later[c + 1 :, i, j] = True
        assert not (reached[c, i, j] & ~later).any()
    # Negative control and reach: every earlier neighbour and channel is used somewhere.
    assert reached[0, 2, 2, 0, 2, 3]  # W
    assert reached[0, 1, 2, 0, 2, 2]  # N
    assert reached[0, 1, 3, 0, 2, 2]  # NE
    assert reached[1, 2, 2, 2, 2, 2]  # the channel before
    assert not reached[0, 2, 2, 0, 3, 4]  # no neighbour of it


def test_samples_follow_the_masses():
    for space, options in MODELS:
        model = _fitted(space, options)
        images = torch.tensor(list(itertools.product(range(3), repeat=space.num_dims))).view(-1, *space.sizes)
        masses = model.log_prob(images)
        entropy = -(masses.exp() * masses).sum()
        x = model.sample(4000, torch.Generator().manual_seed(0))
        code_length = -model.log_prob(x)
        assert abs(code_length.mean() - entropy) < 5 * code_length.std() / math.sqrt(len(x))
        uniform = torch.randint(3, x.shape, generator=torch.Generator().manual_seed(0))
        assert abs(-model.log_prob(uniform).mean() - entropy) > 5 * code_length.std() / math.sqrt(len(x))


def test_temperature():
    space = Space.image(3, 4, 4, 32)
    model = _fitted(space, {})
    cold = model.sample(3, torch.Generator().manual_seed(0), temperature=0)
    assert (cold == cold[:1]).all(), "temperature 0 leaves nothing to chance"
    means = [
        float(model.log_prob(model.sample(200, torch.Generator().manual_seed(0), temperature=t)).mean())
        for t in (0.5, 1)
    ]
    assert means[0] > means[1]


def test_chunks_change_nothing(monkeypatch):
    space = Space.image(3, 4, 5, 32)
    whole, x = _fitted(space, {}), _data(space, 20, seed=1)
    monkeypatch.setattr("codelength.models.baselines.context_table.CHUNK_DIMS", 100)
    parts = _fitted(space, {})
    assert all((a == b).all() for a, b in zip(whole.state_dict().values(), parts.state_dict().values(), strict=True))
    assert (whole.log_prob(x) == parts.log_prob(x)).all()
    assert torch.allclose(whole.log_prob(x), whole.conditionals(x).log_prob(x), atol=1e-10)


def test_open_sizes_can_be_scored():
    space = Space.image(1, None, None, 17)
    model = build_model("context_table", space)
    model.fit(_data(Space.image(1, 5, 6, 17)))
    assert model.log_prob(_data(Space.image(1, 7, 4, 17), 3)).shape == (3,)


def test_neighbours_of_the_corner_and_borders():
    index = neighbour_index(3, 4)
    assert index[:, 0].tolist() == [12, 12, 12, 12]  # outside
    assert index[:, 2].tolist() == [1, 1, 1, 1]  # the first row: W everywhere
    assert index[:, 4].tolist() == [0, 0, 0, 1]  # the first column: N for W and NW
    assert index[:, 7].tolist() == [6, 3, 2, 3]  # the last column: N for NE
    assert index[:, 5].tolist() == [4, 1, 0, 2]
    assert bin_borders(3) == [1, 2]


def test_classes_have_equal_counts():
    space = Space.image(3, 16, 16, 256)
    model = build_model("context_table", space, classes=8)
    model.fit(torch.randint(256, (60, 3, 16, 16), generator=torch.Generator().manual_seed(0)))
    shares = model.counts_0.sum(1) / model.counts_0.sum()
    assert shares.sum() == pytest.approx(1)
    assert shares.min() > 0.08
    assert shares.max() < 0.18


def test_errors():
    model = build_model("context_table", GREY)
    x = _data(GREY)
    with pytest.raises(UsageError, match="ContextTable is not fitted"):
        model.log_prob(x)
    with pytest.raises(UsageError, match="no data"):
        model.fit(x[:0])
    with pytest.raises(SpaceMismatchError):
        model.fit(x + 3)
    for options, match in (
        ({"rule": "median"}, "unknown rule"),
        ({"rule": "neighbours", "classes": 3}, "only with rule='predictor'"),
        ({"rule": "predictor", "classes": 0}, "wanted 1 or more"),
    ):
        with pytest.raises(UsageError, match=match):
            build_model("context_table", GREY, **options)
    with pytest.raises(UsageError, match="takes 3 channels, not 4"):
        build_model("context_table", Space.image(4, 2, 2, 3), rule="neighbours")
    with pytest.raises(UsageError, match="speaks of images"):
        build_model("context_table", Space("sequence", (4,), 3))


def _test_bits_per_dim(name, **options):
    data = load_data(name)
    model = build_model("context_table", data.space, **options)
    model.fit(data.split("train").batch(slice(None)))
    start = time.process_time()
    nats = -model.log_prob(data.split("test").batch(slice(None))).mean()
    return float(bits_per_dim(nats, data.space.num_dims)), time.process_time() - start


def test_mnist5k_bar():
    value, _ = _test_bits_per_dim("mnist5k")
    assert value == pytest.approx(1.26, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "bar", "tolerance"), [("mnist", 1.238, 0.015), ("cifar10", 4.07, 0.03)])
def test_bars_of_the_official_sets(name, bar, tolerance):
    if not is_here(name):
        pytest.skip("the official files are not here")
    value, seconds = _test_bits_per_dim(name)
    assert value == pytest.approx(bar, abs=tolerance)
    assert seconds < 60
