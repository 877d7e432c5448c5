"""The causal lattice network: where its messages go, its training squares, its steps."""

import pytest
import torch

from codelength.errors import UsageError
from codelength.models.autoregressive.causal_lattice import NEIGHBOURS, CausalLattice
from codelength.models.autoregressive.stepwise import score_stepwise
from codelength.space import Space

COLOUR = Space.image(3, 9, 9)


def network(space=COLOUR, **options):
    torch.manual_seed(0)
    options = {"rows": 2, "reach": 2, "width": 12, "layers": 3, "head_width": 8, "components": 2, "crop": 4, **options}
    model = CausalLattice(space, message_width=5, **options).double()
    with torch.no_grad():  # away from the start, so that outputs depend on inputs
        for p in model.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    return model


def images(n, space=COLOUR, seed=1):
    return torch.randint(space.levels, (n, *space.sizes), generator=torch.Generator().manual_seed(seed))


def reached_by_definition(row, column, layers, rows=2, reach=2):
    """Sites that the docstring's equations let a site depend on: windows, and senders' windows and values, layer by layer."""
    hearing, seen = {(row, column)}, set()
    for layer in range(layers):
        for r, c in hearing:
            seen |= {(r - i, c + j) for i in range(1, rows + 1) for j in range(-reach, reach + 1)}
            seen |= {(r, c - j) for j in range(1, reach + 1)}
        if layer < layers - 1:
            hearing = {(r + i, c + j) for r, c in hearing for i, j in NEIGHBOURS}
            hearing = {(r, c) for r, c in hearing if 0 <= r < 9 and 0 <= c < 9}
            seen |= hearing
    return {(r, c) for r, c in seen if 0 <= r < 9 and 0 <= c < 9}


@pytest.mark.parametrize("layers", [2, 3])
def test_a_site_depends_on_what_its_equations_name_and_on_nothing_else(layers):
    model, x = network(layers=layers), images(1)
    row, column = 7, 4
    with torch.no_grad():
        before = model.conditionals(x).log_prob_per_dim(x)[0, 0, row, column]
        depends = set()
        for i in range(9):
            for j in range(9):
                changed = x.clone()
                changed[0, :, i, j] = 255 - changed[0, :, i, j]
                after = model.conditionals(changed).log_prob_per_dim(x)[0, 0, row, column]
                if bool(after != before):
                    depends.add((i, j))
    assert depends == reached_by_definition(row, column, layers)
    # The messages carry further than the window alone.
    assert depends > reached_by_definition(row, column, 1)


def test_a_message_from_the_site_itself_would_be_seen():
    """Control: a network that hears the east neighbour of the row above's successor leaks, and causality shows it."""
    model, x = network(), images(1)
    import codelength.models.autoregressive.causal_lattice as module

    original = module._neighbours
    module._neighbours = lambda messages: original(messages.roll(-1, dims=2))  # the west message becomes the site's own
    try:
        with torch.no_grad():
            before = model.conditionals(x).log_prob_per_dim(x)[0, 0, 4, 4]
            changed = x.clone()
            changed[0, :, 4, 4] = 255 - changed[0, :, 4, 4]
            after = model.conditionals(changed).log_prob_per_dim(x)[0, 0, 4, 4]
    finally:
        module._neighbours = original
    assert bool(before != after)


@pytest.mark.parametrize("label", [None, 1])
def test_steps_equal_the_parallel_pass(label):
    space = Space.image(3, 9, 9, conditions={"label": 3}) if label is not None else COLOUR
    model, x = network(space, class_conditional=label is not None), images(2)
    conditions = {} if label is None else {"label": torch.tensor([label, 0])}
    with torch.no_grad():
        stepwise, parallel = score_stepwise(model, x, **conditions), model.log_prob(x, **conditions)
    assert torch.allclose(stepwise, parallel, atol=1e-9 * 243, rtol=0)


def test_whole_images_train_on_their_exact_code_length():
    model, x = network(crop=0), images(3)
    with torch.no_grad():
        objective = model.training_objective(x, torch.Generator().manual_seed(2))
        assert torch.allclose(objective, -model.log_prob(x), atol=1e-8)


def test_a_square_without_messages_from_outside_is_scored_like_an_image_of_its_own_messages():
    """Each square of a training step equals the conditionals of the whole image where messages have not come from outside."""
    model, x = network(layers=2, crop=6), images(1, seed=3)
    levels = x.long()
    row, column = (index.flatten() for index in torch.meshgrid(torch.arange(3, 9), torch.arange(2, 8), indexing="ij"))
    with torch.no_grad():
        places = torch.zeros_like(row), row, column
        square = model._on_grid(levels, places, (1, (6, 6)), None).log_prob_per_dim(levels[:, :, 3:9, 2:8])
        whole = model.conditionals(x).log_prob_per_dim(levels)[:, :, 3:9, 2:8]
    inner = (slice(None), slice(None), slice(2, 6), slice(2, 5))  # two rows down, two columns in, one from the right
    assert torch.allclose(square[inner], whole[inner], atol=1e-12)
    assert not torch.allclose(square, whole, atol=1e-6)


def test_the_training_estimate_reaches_every_parameter():
    model = network()
    model.training_objective(images(8), torch.Generator().manual_seed(3)).mean().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())


def test_wrong_options_are_named():
    with pytest.raises(UsageError, match="layers=1, message_width=5, crop=4; wanted 2, 1 and 0 at least"):
        network(layers=1)
