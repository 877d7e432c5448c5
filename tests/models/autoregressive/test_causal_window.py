"""The causal window network: its training estimate, its window and its wavefronts."""

import pytest
import torch

from codelength.errors import UsageError
from codelength.models.autoregressive.causal_window import CausalWindow
from codelength.models.autoregressive.stepwise import score_stepwise
from codelength.space import Space

COLOUR = Space.image(3, 6, 7)


def network(space=COLOUR, **options):
    torch.manual_seed(0)
    options = {"rows": 2, "reach": 2, "width": 16, "layers": 2, "head_width": 8, "components": 3, "sites": 8, **options}
    model = CausalWindow(space, **options).double()
    with torch.no_grad():  # away from the start, so that outputs depend on inputs
        for p in model.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    return model


def images(n, space=COLOUR, seed=1):
    return torch.randint(space.levels, (n, *space.sizes), generator=torch.Generator().manual_seed(seed))


def test_the_training_estimate_is_unbiased():
    model, x, generator = network(sites=100), images(4), torch.Generator().manual_seed(2)
    with torch.no_grad():
        draws = torch.stack([model.training_objective(x, generator) for _ in range(400)])
        error, exact = draws.std(0) / 400**0.5, -model.log_prob(x)
    assert ((draws.mean(0) - exact) / error).abs().max() < 5
    # Control: 10 % off would be seen.
    assert ((draws.mean(0) * 1.1 - exact) / error).abs().max() > 5


def test_the_training_estimate_reaches_every_parameter():
    model = network()
    model.training_objective(images(8), torch.Generator().manual_seed(3)).mean().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())


def test_a_site_depends_on_its_window_and_nothing_else():
    model, x = network(), images(1)
    row, column = 3, 3

    def here(data):
        with torch.no_grad():
            return model.conditionals(data).log_prob_per_dim(x)[0, 0, row, column]

    before = here(x)
    for i in range(6):
        for j in range(7):
            inside = (0 < row - i <= 2 and abs(column - j) <= 2) or (i == row and 0 < column - j <= 2)
            changed = x.clone()
            changed[0, :, i, j] = 255 - changed[0, :, i, j]
            assert bool(here(changed) != before) == inside, (i, j)


def test_a_later_channel_depends_on_the_channels_before():
    model, x = network(), images(1)
    changed = x.clone()
    changed[0, 0, 3, 3] = 255 - changed[0, 0, 3, 3]
    with torch.no_grad():
        distribution = model.conditionals(x)
        tables = [distribution.channel(c, y[:, :c]).probs()[0, 3, 3] for y in (x, changed) for c in range(3)]
    assert torch.equal(tables[0], tables[3])  # the first channel sees none
    assert not torch.equal(tables[1], tables[4])
    assert not torch.equal(tables[2], tables[5])


def test_wavefronts_are_few_and_exact():
    model = network()
    assert len(model.schedule) == 7 + 3 * 5
    assert len(CausalWindow(Space.image(3, 32, 32), width=8).schedule) == 218
    x = images(3)
    with torch.no_grad():
        assert torch.allclose(score_stepwise(model, x), model.log_prob(x), rtol=0, atol=1e-9 * COLOUR.num_dims)


@pytest.mark.parametrize("options", [{"rows": 1}, {"reach": 1}, {"layers": 0}])
def test_an_empty_window_is_refused(options):
    with pytest.raises(UsageError, match="wanted 2, 2 and 1 at least"):
        network(**options)


def test_other_spaces_are_refused():
    with pytest.raises(UsageError, match="fixed size"):
        CausalWindow(Space("sequence", (8,), 4))
    with pytest.raises(UsageError, match="fixed size"):
        CausalWindow(Space.image(3, None, 32))
