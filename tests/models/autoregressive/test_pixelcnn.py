"""PixelCNN and Gated PixelCNN: what they see, channels included, and where PixelCNN is blind."""

from __future__ import annotations

import itertools

import pytest
import torch

from codelength import Space, build_model
from codelength.errors import UsageError
from codelength.models.autoregressive.stepwise import score_stepwise, stepwise_log_prob_per_dim
from codelength.models.base import num_parameters
from codelength.nn.causal_conv import CausalConv

GREY, COLOUR, WIDE = Space.image(1, 6, 7, 17), Space.image(3, 4, 5, 5), Space.image(1, 7, 13, 4)
SYSTEMS = ["pixelcnn", "gated_pixelcnn"]
PUBLISHED = {"filters": 8, "layers": 3, "first_kernel": 3, "head_filters": 24}


def _model(system, space, randomize, **options):
    return randomize(build_model(system, space, **{**PUBLISHED, **options}).double().eval())


def _raster(space):
    return torch.arange(space.sizes[1] * space.sizes[2]).view(space.sizes[1:])


def _before(space):
    sites = _raster(space).flatten()
    return sites[None, :] < sites[:, None]


def _field(space, *convolutions):
    """Sites that a stack of convolutions lets a site see, from their offsets alone: (H * W, H * W) bool."""
    height, width = space.sizes[1:]
    seen = torch.eye(height * width, dtype=torch.bool)
    for offsets in convolutions:
        reads = torch.zeros_like(seen)
        for (row, column), (r, c) in itertools.product(itertools.product(range(height), range(width)), offsets):
            if 0 <= row + r < height and 0 <= column + c < width:
                reads[row * width + column, (row + r) * width + column + c] = True
        seen = (seen.double() @ reads.double()) > 0
    return seen


def _offsets(reach, own):
    above = list(itertools.product(range(-reach, 0), range(-reach, reach + 1)))
    return above + [(0, c) for c in range(-reach, 1 if own else 0)]


@pytest.mark.parametrize("layers", [1, 4])
@pytest.mark.parametrize("first_kernel", [3, 5])
def test_pixelcnn_sees_what_its_kernels_reach_and_has_a_blind_spot(layers, first_kernel, dependencies, randomize):
    model = _model("pixelcnn", WIDE, randomize, layers=layers, first_kernel=first_kernel, filters=12)
    found = dependencies(model.outputs, WIDE, images=4)
    field = _field(WIDE, *[_offsets(1, True)] * layers, _offsets(first_kernel // 2, False))
    assert torch.equal(found, field)
    # However deep: (i − 1, j + reach + 1) is out of sight, and what it hides behind a line to the upper right.
    reach, width = first_kernel // 2, WIDE.sizes[2]
    rows, columns = torch.arange(len(found)) // width, torch.arange(len(found)) % width
    up, right = rows[:, None] - rows[None], columns[None] - columns[:, None]
    assert not found[right > reach * up].any()
    assert (_before(WIDE) & (right > reach * up)).any()


@pytest.mark.parametrize("space", [GREY, COLOUR])
def test_gated_pixelcnn_sees_all_sites_before_and_no_other(space, dependencies, randomize):
    """No blind spot, as soon as the vertical stack is as deep as a row is wide."""
    model = _model("gated_pixelcnn", space, randomize, layers=6)
    assert torch.equal(dependencies(model.outputs, space), _before(space))


def test_the_same_depth_leaves_pixelcnn_blind(dependencies, randomize):
    model = _model("pixelcnn", GREY, randomize, layers=6, filters=12)
    found = dependencies(model.outputs, GREY, images=4)
    assert (found & ~_before(GREY)).sum() == 0
    assert not found[7, 2]  # (1, 0) does not see (0, 2)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("space", [GREY, COLOUR])
def test_changes_at_a_site_or_later_do_not_reach_it(system, space, leaks, randomize):
    assert not leaks(_model(system, space, randomize), _raster(space))


def _unmask(model, name, own):
    """Replace a layer by one with another mask; "row" lets it reach one row further down."""
    parent, _, child = name.rpartition(".")
    old = model.get_submodule(name)
    before, own = ((old.before[0] - 1, old.before[1]), "all") if own == "row" else (old.before, own)
    broken = CausalConv(old.in_groups, old.out_groups, old.kernel, before, own).double()
    setattr(model.get_submodule(parent), child, broken)


@pytest.mark.parametrize(
    ("system", "layer", "own"),
    [
        ("pixelcnn", "first", "B"),
        ("pixelcnn", "blocks.0.conv", "all"),
        ("gated_pixelcnn", "layers.0.horizontal", "B"),
        ("gated_pixelcnn", "layers.0.vertical", "row"),
    ],
)
def test_the_probes_find_a_broken_mask(system, layer, own, leaks, dependencies, randomize):
    model = _model(system, GREY, randomize)
    _unmask(model, layer, own)
    assert leaks(model, _raster(GREY))
    assert (dependencies(model.outputs, GREY) & ~_before(GREY)).any()


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("options", [{"pixels": "categorical"}, {"components": 2, "channel_masks": True}])
def test_masked_channels_follow_each_other(system, options, channel_dependencies, randomize):
    model = _model(system, COLOUR, randomize, layers=5 if system == "gated_pixelcnn" else 2, filters=12, **options)
    found = channel_dependencies(model, COLOUR)
    dims = torch.arange(len(found))
    assert not found[dims[None] >= dims[:, None]].any()
    site = dims // 3
    own = (site[None] == site[:, None]) & (dims[None] < dims[:, None])
    assert found[own].all()
    if system == "gated_pixelcnn":
        assert torch.equal(found, dims[None] < dims[:, None])


def test_the_probe_of_channels_finds_a_broken_mask(channel_dependencies, randomize):
    model = _model("pixelcnn", COLOUR, randomize, pixels="categorical")
    _unmask(model, "blocks.1.conv", "all")
    found = channel_dependencies(model, COLOUR)
    dims = torch.arange(len(found))
    assert found[dims[None] >= dims[:, None]].any()


def test_joint_channels_see_no_channel_of_their_site(channel_dependencies, randomize):
    found = channel_dependencies(_model("pixelcnn", COLOUR, randomize, components=2), COLOUR)
    site = torch.arange(len(found)) // 3
    assert not found[site[None] == site[:, None]].any()


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize(
    ("space", "options"),
    [
        (WIDE, {"kernel": 5, "first_kernel": 3}),
        (Space.image(1, 9, 3, 4), {"first_kernel": 7}),
        (Space.image(3, 6, 9, 4), {"pixels": "categorical", "filters": 7}),
        (Space.image(2, 6, 9, 300), {"components": 2}),
    ],
)
def test_steps_equal_the_parallel_pass(system, space, options, randomize):
    model = _model(system, space, randomize, **options)
    x = torch.randint(space.levels, (3, *space.sizes), generator=torch.Generator().manual_seed(1))
    model.initialize(x, torch.Generator())
    with torch.no_grad():
        gap = stepwise_log_prob_per_dim(model, x) - model.conditionals(x).log_prob_per_dim(x)
    assert gap.abs().max() < 1e-9


@pytest.mark.parametrize("system", SYSTEMS)
def test_float32_steps_equal_the_parallel_pass(system):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(system, Space.image(1, 16, 16), filters=16, layers=4).eval()
    x = torch.randint(256, (4, 1, 16, 16), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        gap = score_stepwise(model, x) - model.log_prob(x)
    assert gap.abs().max() / 256 < 1e-6


def test_pixelcnn_takes_wavefronts():
    """28 + 4 * 27 steps instead of 784."""
    model = build_model("pixelcnn", Space.image(1, 28, 28, 2), filters=2, layers=1)
    assert len(model.schedule) == 136
    assert model.raster_causal


def test_the_papers_networks_are_built():
    with torch.device("meta"):
        paper = build_model("pixelcnn", Space.image(3, 32, 32), pixels="categorical", head_filters=1024)
        gated = build_model("gated_pixelcnn", Space.image(3, 32, 32), pixels="categorical")
    assert len(paper.stack) == len(gated.stack) == 15
    assert num_parameters(paper) > 3e6
    assert paper.head.groups == gated.head.groups == 3


@pytest.mark.parametrize("system", SYSTEMS)
def test_classes_change_the_distribution(system, randomize):
    space = Space.image(1, 4, 4, 17, conditions={"label": 3})
    model = _model(system, space, randomize, class_conditional=True)
    x = torch.randint(17, (1, 1, 4, 4), generator=torch.Generator().manual_seed(0)).expand(3, -1, -1, -1)
    assert model.log_prob(x, label=torch.arange(3)).unique().numel() == 3


@pytest.mark.parametrize("system", SYSTEMS)
def test_sixteen_bit_data_set_the_scale_once(system, randomize):
    space = Space.image(1, 4, 4, 65536)
    model = _model(system, space, randomize, components=2)
    x = torch.randint(1000, 3000, (8, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    model.initialize(x, torch.Generator())
    before = model.log_prob(x)
    model.initialize(x * 10, torch.Generator())
    assert torch.equal(model.log_prob(x), before)
    assert before.isfinite().all()
    assert (score_stepwise(model, x) - before).abs().max() < 1e-6


def test_dropout_only_in_training():
    for system in SYSTEMS:
        model = build_model(system, GREY, **PUBLISHED, dropout=0.5)
        model.out.out.weight.data.mul_(10)
        x = torch.randint(17, (2, 1, 6, 7), generator=torch.Generator().manual_seed(0))
        assert torch.equal(model.eval().log_prob(x), model.log_prob(x))
        assert not torch.equal(model.train().log_prob(x), model.log_prob(x))


def test_open_sizes_are_scored(randomize):
    for system in SYSTEMS:
        model = _model(system, Space.image(1, None, None, 17), randomize)
        for size in (3, 6):
            assert model.log_prob(torch.zeros(2, 1, size, size, dtype=torch.long)).isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filters": 0}, "filters=0"),
        ({"layers": 0}, "layers=0; wanted at least 1"),
        ({"kernel": 2}, "odd"),
        ({"first_kernel": 1}, "at least 3"),
        ({"dropout": 1.0}, "dropout"),
        ({"class_conditional": True}, "no labels"),
        ({"pixels": "bernoulli"}, "2 levels"),
    ],
)
def test_misfits_are_refused(options, message):
    for system in SYSTEMS:
        with pytest.raises(UsageError, match=message):
            build_model(system, GREY, **{**PUBLISHED, **options})


def test_filters_must_serve_every_channel():
    with pytest.raises(UsageError, match="wanted at least 3"):
        build_model("pixelcnn", COLOUR, filters=2, pixels="categorical")
