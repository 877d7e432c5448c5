"""Image Transformer and Sparse Transformer: sizes of the papers, causality, receptive fields, steps, options."""

from __future__ import annotations

import math

import pytest
import torch

from codelength import Space, build_model
from codelength.coding import autoregressive
from codelength.errors import UsageError
from codelength.models.autoregressive.stepwise import score_stepwise, stepwise_log_prob_per_dim
from codelength.models.base import num_parameters
from codelength.nn.attention_patterns import Pattern, dense_attention
from codelength.recipe import load_recipe
from codelength.run import Run

GREY, COLOUR = Space.image(1, 4, 6, 17), Space.image(3, 4, 4, 17)
SMALL = {"layers": 2, "width": 8, "heads": 2, "feed_forward": 12, "dropout": 0.0}
MIXED = {"pixels": "logistic_mixture", "components": 2}
ROWS = {"block": "1d", "query": 6, "memory": 7}
GRID = {"block": "2d", "query": [2, 2], "memory": [1, 2]}
# Real inputs, so that the Jacobian is defined: sites as positions, and dims as positions.
SYSTEMS = [
    ("image_transformer", GREY, {**ROWS, **MIXED}),
    ("image_transformer", COLOUR, {**ROWS, **MIXED, "norm": "pre"}),
    ("image_transformer", COLOUR, {**ROWS, **MIXED, "channel_positions": True}),
    ("image_transformer", GREY, {**GRID, **MIXED}),
    ("image_transformer", COLOUR, {**GRID, **MIXED, "channel_positions": True}),
    ("sparse_transformer", GREY, {**MIXED}),
    ("sparse_transformer", COLOUR, {**MIXED, "channel_positions": True}),
    ("sparse_transformer", COLOUR, {**MIXED, "channel_positions": True, "pattern": "fixed", "summary": 2}),
    ("sparse_transformer", COLOUR, {**MIXED, "channel_positions": True, "mixing": "heads", "stride": 7}),
    ("sparse_transformer", GREY, {**MIXED, "mixing": "heads", "pattern": "fixed", "summary": 2}),
]
CATEGORICAL = [
    ("image_transformer", COLOUR, {**GRID, "pixels": "categorical", "positions": "learned"}),
    ("image_transformer", COLOUR, {**ROWS, "pixels": "categorical"}),
    ("sparse_transformer", COLOUR, {"pattern": "fixed", "summary": 2}),
    ("sparse_transformer", Space.image(3, 4, 4, 2), {}),
]


def _model(randomize, system, space, options, **changes):
    return randomize(build_model(system, space, **{**SMALL, **options, **changes}).double().eval())


def _data(space, n=3, seed=0):
    return torch.randint(space.levels, (n, *space.sizes), generator=torch.Generator().manual_seed(seed))


def _site_order(model):
    order = torch.empty(model.space.sizes[1:], dtype=torch.long)
    for step, positions in enumerate(model.schedule):
        order[positions.rows, positions.columns] = step
    return order


def _dependencies(model):
    """Whether the outputs of position i move with the value of position j, (T, T) bool, by autograd."""
    space, order = model.space, model.order
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, *space.sizes, generator=generator, dtype=torch.float64).requires_grad_()
    out = model.outputs(x * (space.levels - 1)).unflatten(1, (order.group, -1))  # (1, group, P, H, W)
    projection = torch.randn(out.shape[2], generator=generator, dtype=torch.float64)
    projected = torch.einsum("bgphw,p->bghw", out, projection).expand(-1, order.channels, -1, -1)
    positions = order.sequence(projected)[..., 0].flatten()
    rows = [torch.autograd.grad(value, x, retain_graph=True)[0] for value in positions]
    return torch.stack([order.sequence(row).abs().sum(2)[0] for row in rows]) != 0


def _reach(model):
    """Which contents a position sees through all layers: the patterns composed, and contents one place late."""
    reach = torch.eye(model.order.length, dtype=torch.bool)
    for attention in model.stack.attentions():
        layer = torch.eye(model.order.length, dtype=torch.bool)
        for pattern, _ in attention.groups:
            layer |= pattern.mask(model.order.length)
        reach = (layer.double() @ reach.double()) > 0
    seen = torch.zeros_like(reach)
    seen[:, :-1] = reach[:, 1:]
    return seen


class Peeking(Pattern):
    """A pattern that sees the position after the query's too."""

    def __init__(self, pattern):
        self.pattern = pattern

    def keys(self, i):
        return self.pattern.keys(i)

    def attend(self, q, k, v):
        mask = self.pattern.mask(q.shape[1])
        return dense_attention(q, k, v, mask | torch.ones_like(mask).tril(1).triu(1))

    def num_scores(self, length):
        return length**2


def _break_mask(model):
    for attention in model.stack.attentions():
        attention.groups = [(Peeking(pattern), count) for pattern, count in attention.groups]


def test_the_papers_networks_have_the_published_sizes():
    with torch.device("meta"):
        recipe = load_recipe("cifar10-sparse_transformer-paper")
        model = Run(None, recipe, Space.image(3, 32, 32), "raw", "").build()
    assert num_parameters(model) == pytest.approx(59e6, rel=0.01)
    assert model.order.length == 3072
    assert len(model.stack.blocks) == 128


def test_the_papers_image_transformer_builds():
    for recipe, positions in (
        ("cifar10-image_transformer-paper", 3072),
        ("cifar10-image_transformer-dmol-paper", 1024),
    ):
        with torch.device("meta"):
            model = Run(None, load_recipe(recipe), Space.image(3, 32, 32), "raw", "").build()
        assert model.order.length == positions
        assert len(model.stack.blocks) == 12


@pytest.mark.parametrize(("system", "space", "options"), SYSTEMS)
def test_a_position_depends_on_what_the_patterns_let_it_see_and_nothing_else(system, space, options, randomize):
    model = _model(randomize, system, space, options)
    found = _dependencies(model)
    assert torch.equal(found, _reach(model))
    assert not found.triu().any()


@pytest.mark.parametrize(("system", "space", "options"), [s for s in SYSTEMS if s[0] == "sparse_transformer"])
def test_two_sparse_layers_reach_every_position_before(system, space, options, randomize):
    model = _model(randomize, system, space, options)
    everything = torch.ones(model.order.length, model.order.length, dtype=torch.bool).tril(-1)
    assert torch.equal(_dependencies(model), everything)
    one_layer = _model(randomize, system, space, options, layers=1)
    assert not torch.equal(_dependencies(one_layer), everything)


@pytest.mark.parametrize(("system", "space", "options"), [s for s in SYSTEMS if s[0] == "image_transformer"])
def test_layers_of_the_image_transformer_see_further_and_further(system, space, options, randomize):
    counts = [
        int(_dependencies(_model(randomize, system, space, options, layers=layers)).sum()) for layers in (1, 2, 3)
    ]
    assert counts[0] < counts[1] <= counts[2]


def test_a_first_layer_of_rows_sees_its_block_and_memory(randomize):
    """Query blocks of 6 with 7 before them: position 14 lies in block 12 .. 17 and sees contents 4 .. 13."""
    model = _model(randomize, "image_transformer", GREY, {**ROWS, **MIXED}, layers=1)
    assert _dependencies(model)[14].nonzero().flatten().tolist() == list(range(4, 14))


@pytest.mark.parametrize(("system", "space", "options"), [*SYSTEMS, *CATEGORICAL])
def test_changes_at_a_site_or_later_do_not_reach_it(system, space, options, leaks, randomize):
    model = _model(randomize, system, space, options)
    x, order = _data(space, 1), _site_order(model)
    with torch.no_grad():
        for rank in range(0, order.numel(), 3):
            changed = torch.where(order >= rank, space.levels - 1 - x, x)
            before, after = (
                model.conditionals(torch.cat([x, changed])).log_prob_per_dim(torch.cat([x, changed])).chunk(2)
            )
            assert torch.equal(before[:, :, order < rank], after[:, :, order < rank])
    if model.head.groups == 1:
        assert not leaks(model, order)


@pytest.mark.parametrize(("system", "space", "options"), [*SYSTEMS, *CATEGORICAL])
def test_later_channels_of_a_site_do_not_reach_earlier_ones(system, space, options, randomize):
    model, x = _model(randomize, system, space, options), _data(space, 2)
    row, column = 1, 2
    for c in range(space.sizes[0]):
        changed = x.clone()
        changed[:, c:, row, column] = space.levels - 1 - changed[:, c:, row, column]
        with torch.no_grad():
            before, after = (model.conditionals(y).log_prob_per_dim(y) for y in (x, changed))
        assert torch.equal(before[:, :c, row, column], after[:, :c, row, column])
        later = _site_order(model) > _site_order(model)[row, column]
        assert not torch.equal(before[:, :, later], after[:, :, later])
        # The next channel is given the one that changed.
        assert c + 1 == space.sizes[0] or not torch.equal(before[:, c + 1, row, column], after[:, c + 1, row, column])


@pytest.mark.parametrize(
    ("system", "space", "options"),
    [SYSTEMS[0], SYSTEMS[3], SYSTEMS[5], ("sparse_transformer", GREY, {**MIXED, "pattern": "fixed", "summary": 2})],
)
def test_the_probes_find_a_broken_mask(system, space, options, leaks, randomize):
    model = _model(randomize, system, space, options)
    assert not leaks(model, _site_order(model))
    _break_mask(model)
    assert leaks(model, _site_order(model))
    assert _dependencies(model).triu().any()


def test_the_probe_finds_a_broken_mask_between_channels(randomize):
    model = _model(randomize, "sparse_transformer", COLOUR, {**MIXED, "channel_positions": True})
    _break_mask(model)
    assert _dependencies(model).triu().any()


def test_the_probes_find_contents_that_are_not_one_place_late(leaks, randomize, monkeypatch):
    model = _model(randomize, "image_transformer", GREY, {**ROWS, **MIXED})
    order = model.order
    monkeypatch.setattr(order, "sequence", lambda x: type(order).sequence(order, x).roll(-1, 1))
    assert leaks(model, _site_order(model))


@pytest.mark.parametrize(("system", "space", "options"), [*SYSTEMS, *CATEGORICAL])
def test_steps_equal_the_parallel_pass(system, space, options, randomize):
    model, x = _model(randomize, system, space, options), _data(space)
    with torch.no_grad():
        gap = stepwise_log_prob_per_dim(model, x) - model.conditionals(x).log_prob_per_dim(x)
    assert gap.abs().max() < 1e-9


@pytest.mark.parametrize(
    ("system", "options"),
    [
        ("image_transformer", {"query": 40, "memory": 40, "norm": "pre"}),
        ("image_transformer", {"block": "2d", "query": [4, 8], "memory": [4, 4]}),
        ("sparse_transformer", {}),
        ("sparse_transformer", {"pattern": "fixed", "summary": 4}),
    ],
)
def test_float32_steps_equal_the_parallel_pass(system, options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        space = Space.image(1, 16, 16)
        model = build_model(system, space, layers=3, width=32, heads=2, **options).eval()
        torch.nn.init.normal_(model.output.weight, std=0.1)
    x = _data(space, 4)
    with torch.no_grad():
        gap = score_stepwise(model, x) - model.log_prob(x)
    assert gap.abs().max() / 256 < 1e-6


def test_a_step_costs_a_position_and_not_a_pass(randomize):
    """Multiplications of one late step against those of the parallel pass over all 784 positions."""
    from torch.utils.flop_counter import FlopCounterMode

    space = Space.image(1, 28, 28, 2)
    model = build_model("sparse_transformer", space, **SMALL).eval()
    with torch.no_grad():
        with FlopCounterMode(display=False) as whole:
            model.conditionals(_data(space, 1))
        state, values = model.init_state(1), None
        for _ in range(700):
            _, state = model.step(state, values)
            values = torch.zeros(1, 1, 1, dtype=torch.long)
        with FlopCounterMode(display=False) as one:
            model.step(state, values)
    assert one.get_total_flops() < 2 * whole.get_total_flops() / 784


def test_a_window_keeps_its_window(randomize):
    """Numbers kept for a datum: local layers keep what fits their blocks whatever the image's size."""
    sizes = {
        height: build_model("image_transformer", Space.image(1, height, 16), **{**SMALL, **ROWS}).state_numbers
        for height in (8, 32)
    }
    assert sizes[8] == sizes[32] == 2 * (6 + 7) * (8 + 8)
    strided = build_model("sparse_transformer", Space.image(1, 32, 16), **SMALL).state_numbers
    assert strided <= (17 + 32 * 16) * (8 + 8)


def test_classes_change_the_distribution(randomize):
    space = Space.image(1, 4, 4, 17, conditions={"label": 3})
    for system in ("image_transformer", "sparse_transformer"):
        model = _model(randomize, system, space, {"class_conditional": True})
        x = _data(space, 1).expand(3, -1, -1, -1)
        assert model.log_prob(x, label=torch.arange(3)).unique().numel() == 3
        by_steps = score_stepwise(model, x, label=torch.arange(3))
        assert (by_steps - model.log_prob(x, label=torch.arange(3))).abs().max() < 1e-9
        with pytest.raises(UsageError, match="label="):
            model.log_prob(x)


def test_65536_levels_cost_no_more_parameters_than_17():
    sizes = [
        num_parameters(build_model(system, Space.image(1, 4, 4, levels), **SMALL, **MIXED))
        for levels in (17, 65_536)
        for system in ("image_transformer", "sparse_transformer")
    ]
    assert sizes[:2] == sizes[2:]


def test_wide_levels_take_their_scale_from_data():
    space = Space.image(1, 4, 4, 65_536)
    model = build_model("sparse_transformer", space, **SMALL).eval()
    x = _data(Space.image(1, 4, 4, 256), 32) + 1000
    before = model.log_prob(x).mean()
    model.initialize(x, torch.Generator())
    after = model.log_prob(x)
    assert after.mean() > before + 16  # a nat a dim at least: the mixture spans the data, not the range
    model.initialize(x * 60, torch.Generator())
    assert torch.equal(model.log_prob(x), after)


@pytest.mark.parametrize(
    ("system", "options", "message"),
    [
        ("image_transformer", {"block": "2d"}, "rows, columns"),
        ("image_transformer", {"block": "2d", "query": [3, 2], "memory": [1, 1]}, "divide"),
        ("image_transformer", {"query": [2, 2]}, "one number"),
        ("image_transformer", {"block": "3d"}, "wanted 1d or 2d"),
        ("image_transformer", {"norm": "none"}, "post or pre"),
        ("image_transformer", {"heads": 3, "width": 8}, "multiples of heads"),
        ("image_transformer", {"layers": 0}, "layers=0"),
        ("image_transformer", {"class_conditional": True}, "no labels"),
        ("sparse_transformer", {"dropout": 1.0}, "dropout"),
        ("sparse_transformer", {"pattern": "dense"}, "strided or fixed"),
        ("sparse_transformer", {"pattern": "fixed", "summary": 9, "stride": 4}, "summary <= stride"),
        ("sparse_transformer", {"mixing": "heads", "heads": 1}, "even"),
    ],
)
def test_misfits_are_refused(system, options, message):
    with pytest.raises(UsageError, match=message):
        build_model(system, GREY, **options)


def test_open_sizes_are_refused():
    with pytest.raises(UsageError, match="one size"):
        build_model("sparse_transformer", Space.image(1, None, None))


def test_the_start_is_the_papers():
    """Weights of N(0, 0.125 / sqrt(inputs)), those that end a branch 1 / sqrt(2 layers) of it, the last layer zero."""
    model = build_model("sparse_transformer", Space.image(3, 4, 4), layers=4, width=128)
    block = model.stack.blocks[0]
    for layer, factor in (
        (block.attention.query, 1),
        (block.widen, 1),
        (block.narrow, 8**-0.5),
        (block.attention.out, 8**-0.5),
    ):
        assert layer.weight.std().item() == pytest.approx(0.125 * layer.in_features**-0.5 * factor, rel=0.05)
        assert not layer.bias.any()
    assert model.content.weight.std().item() == pytest.approx(0.125 * 128**-0.5, rel=0.05)
    assert not model.output.weight.any()


@pytest.mark.parametrize(("system", "space", "options"), [SYSTEMS[2], SYSTEMS[3], CATEGORICAL[2]])
def test_files_hold_the_code_length_and_decode(system, space, options, randomize, monkeypatch):
    """Channels of a site in order, and images in as small batches as the caches' limit asks for."""
    model, x = _model(randomize, system, space, options), _data(space, 7)
    monkeypatch.setattr(autoregressive, "STATE_NUMBERS", 3 * model.state_numbers)
    assert autoregressive.lockstep_batch(model) == 3
    stream = autoregressive.encode(model, x)
    with torch.no_grad():
        bits = -model.log_prob(x).sum().item() / math.log(2)
    assert 0 <= 8 * len(stream) - bits < 64 + 0.001 * bits
    assert torch.equal(autoregressive.decode(model, stream, 7), x)
