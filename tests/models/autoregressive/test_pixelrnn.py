"""PixelRNN: the triangle of the Row LSTM, the whole past of the Diagonal BiLSTM, channels, steps."""

from __future__ import annotations

import itertools

import pytest
import torch

from codelength import Space, build_model
from codelength.errors import UsageError
from codelength.models.autoregressive import pixelrnn
from codelength.models.autoregressive.stepwise import score_stepwise, stepwise_log_prob_per_dim
from codelength.nn.causal_conv import CausalConv

GREY, COLOUR, WIDE = Space.image(1, 4, 6, 17), Space.image(3, 3, 4, 5), Space.image(1, 5, 9, 4)
SMALL = {"units": 6, "layers": 1, "first_kernel": 3, "head_filters": 24}


def _model(space, randomize, kind="diagonal_bilstm", **options):
    return randomize(build_model("pixelrnn", space, kind=kind, **{**SMALL, **options}).double().eval())


def _raster(space):
    return torch.arange(space.sizes[1] * space.sizes[2]).view(space.sizes[1:])


def _before(space):
    sites = _raster(space).flatten()
    return sites[None, :] < sites[:, None]


@pytest.mark.parametrize("space", [GREY, COLOUR, Space.image(1, 6, 2, 3)])
def test_one_diagonal_layer_sees_all_sites_before_and_no_other(space, dependencies, randomize):
    assert torch.equal(dependencies(_model(space, randomize).outputs, space, images=4), _before(space))


def test_more_diagonal_layers_see_no_more(dependencies, randomize):
    model = _model(GREY, randomize, layers=3, first_kernel=7)
    assert torch.equal(dependencies(model.outputs, GREY, images=4), _before(GREY))


def test_features_alone_would_hide_the_last_site_of_the_row_above(dependencies, randomize):
    """Why the second direction reads the image: the features of a row never hold its last site."""
    model = _model(GREY, randomize)
    model.stack[0].mirrored_inputs.weight.data[:, -2:] = 0
    missing = (_before(GREY) & ~dependencies(model.outputs, GREY, images=4)).nonzero().tolist()
    width = GREY.sizes[2]
    assert missing == [
        [row * width + column, row * width - 1] for row in range(1, GREY.sizes[1]) for column in range(width - 2)
    ]


def _triangle(space, layers, reach):
    """What Row LSTMs see, by walking: from a site to the left in its row, or to a neighbour above; then the first kernel."""
    height, width = space.sizes[1:]
    found = torch.zeros(height * width, height * width, dtype=torch.bool)
    for row, column in itertools.product(range(height), range(width)):
        features = {(row, column)}
        for _ in range(layers):
            states = set(features)
            for r in range(row, 0, -1):  # a state reads its neighbours above
                states |= {(r - 1, c + s) for (q, c) in states if q == r for s in (-1, 0, 1) if 0 <= c + s < width}
            features = states | {(r, c - 1) for r, c in states if c}
        for r, c in features:
            kernel = [(0, s) for s in range(-reach, 0)]
            kernel += itertools.product(range(-reach, 0), range(-reach, reach + 1))
            for up, side in kernel:
                if r + up >= 0 and 0 <= c + side < width:
                    found[row * width + column, (r + up) * width + c + side] = True
    return found


@pytest.mark.parametrize("layers", [1, 2])
def test_row_lstm_sees_its_triangle(layers, dependencies, randomize):
    """To the right it never sees more than a column a row up; to the left every layer adds one."""
    found = dependencies(_model(WIDE, randomize, kind="row_lstm", layers=layers, units=8).outputs, WIDE)
    assert torch.equal(found, _triangle(WIDE, layers, 1))
    assert (_before(WIDE) & ~found).any()


@pytest.mark.parametrize("kind", pixelrnn.KINDS)
@pytest.mark.parametrize("space", [GREY, COLOUR])
def test_changes_at_a_site_or_later_do_not_reach_it(kind, space, leaks, randomize):
    assert not leaks(_model(space, randomize, kind=kind, layers=2), _raster(space))


def test_the_probes_find_a_direction_that_is_not_shifted(monkeypatch, leaks, dependencies, randomize):
    whole = pixelrnn.mirror_tables

    def unshifted(sites, height, width):
        to_mirrored, _ = whole(sites, height, width)
        return to_mirrored, to_mirrored

    monkeypatch.setattr(pixelrnn, "mirror_tables", unshifted)
    model = _model(GREY, randomize)
    assert leaks(model, _raster(GREY))
    assert (dependencies(model.outputs, GREY) & ~_before(GREY)).any()


def test_the_probes_find_a_broken_first_mask(leaks, randomize):
    model = _model(GREY, randomize, kind="row_lstm")
    old = model.first
    model.first = CausalConv(old.in_groups, old.out_groups, old.kernel, old.before, "B").double()
    assert leaks(model, _raster(GREY))


@pytest.mark.parametrize("kind", pixelrnn.KINDS)
def test_masked_channels_follow_each_other(kind, channel_dependencies, randomize):
    model = _model(COLOUR, randomize, kind=kind, layers=2, pixels="categorical")
    found = channel_dependencies(model, COLOUR)
    dims = torch.arange(len(found))
    if kind == "diagonal_bilstm":
        assert torch.equal(found, dims[None] < dims[:, None])
    own = (dims[None] // 3 == dims[:, None] // 3) & (dims[None] < dims[:, None])
    assert found[own].all()
    assert not found[dims[None] >= dims[:, None]].any()


def test_the_probe_of_channels_finds_a_broken_mask(channel_dependencies, randomize):
    model = _model(COLOUR, randomize, pixels="categorical")
    model.stack[0].layer.up.mask = None
    found = channel_dependencies(model, COLOUR)
    dims = torch.arange(len(found))
    assert found[dims[None] >= dims[:, None]].any()


@pytest.mark.parametrize("kind", pixelrnn.KINDS)
@pytest.mark.parametrize(
    ("space", "options"),
    [
        (WIDE, {"first_kernel": 7}),
        (Space.image(1, 9, 3, 4), {"kernel": 5}),
        (Space.image(3, 5, 8, 4), {"pixels": "categorical", "units": 7}),
        (Space.image(2, 5, 7, 300), {"components": 2}),
    ],
)
def test_steps_equal_the_parallel_pass(kind, space, options, randomize):
    model = _model(space, randomize, kind=kind, layers=2, **options)
    x = torch.randint(space.levels, (3, *space.sizes), generator=torch.Generator().manual_seed(1))
    model.initialize(x, torch.Generator())
    with torch.no_grad():
        gap = stepwise_log_prob_per_dim(model, x) - model.conditionals(x).log_prob_per_dim(x)
    assert gap.abs().max() < 1e-9


@pytest.mark.parametrize("kind", pixelrnn.KINDS)
def test_float32_steps_equal_the_parallel_pass(kind):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model("pixelrnn", Space.image(1, 12, 12), kind=kind, units=16, layers=3).eval()
    x = torch.randint(256, (4, 1, 12, 12), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        gap = score_stepwise(model, x) - model.log_prob(x)
    assert gap.abs().max() / 144 < 1e-6


def test_only_the_row_lstm_takes_wavefronts():
    space = Space.image(1, 28, 28, 2)
    row, diagonal = (build_model("pixelrnn", space, kind=kind, units=2, layers=1) for kind in pixelrnn.KINDS)
    assert len(row.schedule) == 136
    assert len(diagonal.schedule) == 784
    assert row.raster_causal
    assert diagonal.raster_causal


def test_classes_change_the_distribution(randomize):
    space = Space.image(1, 3, 3, 17, conditions={"label": 3})
    x = torch.randint(17, (1, 1, 3, 3), generator=torch.Generator().manual_seed(0)).expand(3, -1, -1, -1)
    for kind in pixelrnn.KINDS:
        model = _model(space, randomize, kind=kind, class_conditional=True)
        assert model.log_prob(x, label=torch.arange(3)).unique().numel() == 3


def test_dropout_only_in_training():
    model = build_model("pixelrnn", GREY, **SMALL, dropout=0.5)
    model.out.out.weight.data.mul_(10)
    x = torch.randint(17, (2, 1, 4, 6), generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.eval().log_prob(x), model.log_prob(x))
    assert not torch.equal(model.train().log_prob(x), model.log_prob(x))


def test_half_precision_trains(randomize):
    model = build_model("pixelrnn", GREY, **SMALL)
    x = torch.randint(17, (8, 1, 4, 6), generator=torch.Generator().manual_seed(0))
    exact = model.log_prob(x)
    with torch.autocast("cpu", torch.bfloat16):
        half = model.log_prob(x)
    half.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    torch.testing.assert_close(half, exact, rtol=0.02, atol=0)


def test_misfits_are_refused():
    with pytest.raises(UsageError, match="did you mean 'row_lstm'"):
        build_model("pixelrnn", GREY, kind="row_lst")
    with pytest.raises(UsageError, match="units=0"):
        build_model("pixelrnn", GREY, units=0)
    with pytest.raises(UsageError, match="odd"):
        build_model("pixelrnn", GREY, kernel=2)
