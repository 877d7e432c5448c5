"""PixelCNN++: the paper's size, causality without blind spots, options, data-dependent start."""

from __future__ import annotations

import pytest
import torch

from codelength import Space, build_model
from codelength.errors import UsageError
from codelength.models.autoregressive.stepwise import score_stepwise, stepwise_log_prob_per_dim
from codelength.models.base import num_parameters
from codelength.nn.shifted_conv import WeightNormed

GREY, COLOUR = Space.image(1, 8, 8), Space.image(3, 4, 8)


def _model(space: Space, randomize, **options):
    defaults = {"filters": 4, "blocks": 1, "stages": 3, "components": 2}
    return randomize(build_model("pixelcnn_pp", space, **{**defaults, **options}).double().eval())


def _raster(space: Space):
    return torch.arange(space.sizes[1] * space.sizes[2]).view(space.sizes[1:])


def test_the_papers_network_has_the_published_size():
    with torch.device("meta"):
        model = build_model("pixelcnn_pp", Space.image(3, 32, 32))
    assert num_parameters(model) == pytest.approx(53.7e6, rel=0.01)


def test_too_few_blocks_leave_a_blind_spot_that_the_probe_finds(dependencies, randomize):
    model = _model(GREY, randomize, blocks=1)
    assert not dependencies(model.outputs, GREY)[8, 7]  # (1, 0) does not see (0, 7)


@pytest.mark.parametrize(("space", "stages"), [(GREY, 1), (GREY, 3), (COLOUR, 2)])
def test_a_site_depends_on_all_earlier_sites_and_no_other(space, stages, dependencies, randomize):
    """No blind spot, as soon as there are blocks enough to cross 8 columns at full resolution.

    A lower resolution carries nothing of row i − 1 to an odd row i, so the full one must reach it alone.
    """
    model = _model(space, randomize, stages=stages, blocks=5 if stages == 1 else 2)
    sites = _raster(space).flatten()
    found = dependencies(model.outputs, space)
    assert torch.equal(found, sites[None, :] < sites[:, None])


@pytest.mark.parametrize("space", [GREY, COLOUR])
def test_changes_at_a_site_or_later_do_not_reach_it(space, leaks, randomize):
    assert not leaks(_model(space, randomize), _raster(space))


@pytest.mark.parametrize(
    ("layer", "before"),
    [
        ("first_down", (1, 1)),
        ("first_above", (0, 1)),
        ("first_left", (1, 0)),
        ("ladder.encode_right.0.conv_in", (1, 0)),
        ("ladder.encode_down.0.conv_out", (0, 1)),
        ("ladder.shrink_right", (1, 0)),
        ("ladder.shrink_down", (0, 1)),
        ("ladder.inner.decode_right.0.conv_in", (1, 0)),
    ],
)
def test_the_probes_find_a_kernel_shifted_too_little(layer, before, leaks, dependencies, randomize):
    model = _model(GREY, randomize, stages=2)
    conv = model.get_submodule(layer)
    (kh, kw), (top, left) = conv.direction.shape[2:], before
    assert before != conv.before

    def shifted(x, crop=True):
        padded = torch.nn.functional.pad(x, (left, max(0, kw - 1 - left), top, max(0, kh - 1 - top)))
        out = torch.nn.functional.conv2d(padded, conv.weight(), conv.bias, conv.stride)
        return out[:, :, : x.shape[2] // conv.stride, : x.shape[3] // conv.stride]

    conv.forward = shifted
    assert leaks(model, _raster(GREY))
    sites = _raster(GREY).flatten()
    found = dependencies(model.outputs, GREY)
    assert (found & (sites[None, :] >= sites[:, None])).any()


def test_later_channels_of_a_site_do_not_reach_earlier_ones(randomize):
    model = _model(COLOUR, randomize)
    x = torch.randint(256, (2, 3, 4, 8), generator=torch.Generator().manual_seed(0))
    for c in range(3):
        changed = x.clone()
        changed[:, c:, 2, 3] = 255 - changed[:, c:, 2, 3]
        with torch.no_grad():
            before, after = (model.conditionals(y).log_prob_per_dim(y) for y in (x, changed))
        assert torch.equal(before[:, :c, 2, 3], after[:, :c, 2, 3])
        assert not torch.equal(before[:, c:, 2, 3], after[:, c:, 2, 3])
        assert not torch.equal(before[:, :, 2, 4], after[:, :, 2, 4])


def test_steps_equal_the_parallel_pass_through_all_strides(randomize):
    for space, options in (
        (GREY, {"blocks": 2}),
        (COLOUR, {}),
        (Space.image(1, 4, 12, 3), {"pixels": "categorical", "components": None}),
    ):
        model = _model(space, randomize, **options)
        x = torch.randint(space.levels, (3, *space.sizes), generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            gap = stepwise_log_prob_per_dim(model, x) - model.conditionals(x).log_prob_per_dim(x)
        assert gap.abs().max() < 1e-9


def test_float32_steps_equal_the_parallel_pass():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model("pixelcnn_pp", Space.image(1, 16, 16), filters=16, blocks=1).eval()
    x = torch.randint(256, (8, 1, 16, 16), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        gap = score_stepwise(model, x) - model.log_prob(x)
    assert gap.abs().max() / 256 < 1e-6


def test_classes_change_the_distribution(randomize):
    space = Space.image(1, 4, 4, 17, conditions={"label": 3})
    model = _model(space, randomize, class_conditional=True, stages=2)
    x = torch.randint(17, (1, 1, 4, 4), generator=torch.Generator().manual_seed(0)).expand(3, -1, -1, -1)
    assert model.conditioning == ("label",)
    assert model.log_prob(x, label=torch.arange(3)).unique().numel() == 3
    with pytest.raises(UsageError, match="label="):
        model.log_prob(x)
    with pytest.raises(UsageError, match=r"0\.\.2"):
        model.log_prob(x, label=torch.tensor([0, 1, 3]))
    with pytest.raises(UsageError, match="wanted \\(3,\\)"):
        model.log_prob(x, label=torch.tensor([0]))


def test_open_sizes_are_scored(randomize):
    model = _model(Space.image(1, None, None, 17), randomize)
    for size in (4, 8):
        x = torch.randint(17, (2, 1, size, size), generator=torch.Generator().manual_seed(0))
        assert model.log_prob(x).isfinite().all()
    with pytest.raises(UsageError, match="stages=1"):
        model.log_prob(torch.zeros(1, 1, 5, 5, dtype=torch.long))


def test_misfits_are_refused():
    with pytest.raises(UsageError, match="stages=2"):
        build_model("pixelcnn_pp", Space.image(1, 30, 30))
    with pytest.raises(UsageError, match="at least 1"):
        build_model("pixelcnn_pp", GREY, filters=0)
    with pytest.raises(UsageError, match="dropout"):
        build_model("pixelcnn_pp", GREY, dropout=-0.1)
    with pytest.raises(UsageError, match="no labels"):
        build_model("pixelcnn_pp", GREY, class_conditional=True)
    with pytest.raises(UsageError, match="did you mean 'filters'"):
        build_model("pixelcnn_pp", GREY, filter=4)


def test_dropout_only_in_training():
    model = build_model("pixelcnn_pp", GREY, filters=4, blocks=1, components=2)
    model.head.gain.data.fill_(1)
    x = torch.randint(256, (2, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.eval().log_prob(x), model.log_prob(x))
    assert not torch.equal(model.train().log_prob(x), model.log_prob(x))


def test_data_dependent_start_normalizes_every_layer_once():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model("pixelcnn_pp", GREY, filters=4, blocks=1, stages=2, components=2).double()
    x = torch.randint(256, (32, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    model.initialize(x, torch.Generator())
    assert model.training
    scales = {}

    def record(layer, inputs, out):
        scales[layer] = (out.mean((0, 2, 3)).abs().max(), (out.std((0, 2, 3)) / layer.init_scale - 1).abs().max())

    handles = [m.register_forward_hook(record) for m in model.modules() if isinstance(m, WeightNormed)]
    with torch.no_grad():  # with gradients, layers leave their cropping to the passes after them
        before = model.eval().log_prob(x)
    for handle in handles:
        handle.remove()
    for layer, (mean, deviation) in scales.items():
        assert layer is model.head or (mean < 1e-9 and deviation < 1e-2)
    model.initialize(255 - x, torch.Generator())
    assert torch.equal(model.log_prob(x), before)


def test_a_layer_that_sees_nothing_is_not_blown_up():
    """The lower resolution of a 2 x 2 image lies before all its data: its outputs do not move."""
    model = build_model("pixelcnn_pp", Space.image(1, 2, 2, 3), filters=4, blocks=1, stages=2, components=1).double()
    before = model.ladder.inner.encode_down[0].conv_in.gain.detach().clone()
    model.initialize(torch.randint(3, (64, 1, 2, 2), generator=torch.Generator().manual_seed(0)), torch.Generator())
    assert torch.equal(model.ladder.inner.encode_down[0].conv_in.gain, before)
    assert all(p.abs().max() <= 10 for name, p in model.named_parameters() if name.endswith("gain"))


def test_the_start_is_saved_with_the_weights():
    model = build_model("pixelcnn_pp", GREY, filters=4, blocks=1, components=2)
    x = torch.randint(256, (8, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    model.initialize(x, torch.Generator())
    fresh = build_model("pixelcnn_pp", GREY, filters=4, blocks=1, components=2)
    fresh.load_state_dict(model.state_dict())
    fresh.initialize(255 - x, torch.Generator())
    assert torch.equal(fresh.eval().log_prob(x), model.eval().log_prob(x))
