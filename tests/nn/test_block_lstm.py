"""Convolutional LSTMs by blocks: against the equations written out site by site, and their gradient."""

from __future__ import annotations

import pytest
import torch

from codelength.nn.block_lstm import Blocks, block_lstm, diagonal_blocks, row_blocks

CASES = [
    (diagonal_blocks(4, 3), (4, 3), [(-1, 0), (0, -1)], (0, -1)),
    (diagonal_blocks(2, 5), (2, 5), [(-1, 0), (0, -1)], (0, -1)),
    (diagonal_blocks(1, 1), (1, 1), [(-1, 0), (0, -1)], (0, -1)),
    (row_blocks(3, 4, 3), (3, 4), [(-1, -1), (-1, 0), (-1, 1)], (-1, 0)),
    (row_blocks(3, 2, 5), (3, 2), [(-1, c) for c in range(-2, 3)], (-1, 0)),
    (row_blocks(3, 4, 1), (3, 4), [(-1, 0)], (-1, 0)),
]


def _random(blocks: Blocks, directions=2, units=2, images=2):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(directions, 4 * units, len(blocks.sites), images, dtype=torch.float64, generator=generator)
    weight = torch.randn(directions, blocks.taps, 4 * units, units, dtype=torch.float64, generator=generator)
    return inputs, weight


def _by_sites(inputs, weight, blocks, size, taps, cell):
    """The equations, one site after another, with states in a dictionary."""
    zero = torch.zeros(inputs.shape[0], inputs.shape[1] // 4, inputs.shape[3], dtype=torch.float64)
    hidden, cells = {}, {}
    for place, site in enumerate(blocks.sites.tolist()):
        row, column = divmod(site, size[1])
        gates = inputs[:, :, place]
        for tap, (r, c) in enumerate(taps):
            gates = gates + weight[:, tap] @ hidden.get((row + r, column + c), zero)
        o, f, i, g = gates.chunk(4, dim=1)
        before = cells.get((row + cell[0], column + cell[1]), zero)
        cells[row, column] = f.sigmoid() * before + i.sigmoid() * torch.tanh(g / 2)
        hidden[row, column] = o.sigmoid() * torch.tanh(cells[row, column])
    return torch.stack(list(hidden.values()), dim=2)


@pytest.mark.parametrize(("blocks", "size", "taps", "cell"), CASES)
def test_states_follow_the_equations(blocks, size, taps, cell):
    inputs, weight = _random(blocks)
    found = block_lstm(inputs, weight, blocks)
    torch.testing.assert_close(found, _by_sites(inputs, weight, blocks, size, taps, cell), rtol=0, atol=1e-12)


def test_the_comparison_sees_a_tap_that_is_swapped():
    blocks, size, taps, cell = CASES[0]
    inputs, weight = _random(blocks)
    assert not torch.allclose(
        block_lstm(inputs, weight, blocks), _by_sites(inputs, weight, blocks, size, taps[::-1], cell)
    )


@pytest.mark.parametrize(("blocks", "size", "taps", "cell"), CASES)
def test_gradient(blocks, size, taps, cell):
    inputs, weight = _random(blocks)
    assert torch.autograd.gradcheck(
        lambda x, w: block_lstm(x, w, blocks), (inputs.requires_grad_(), weight.requires_grad_())
    )


def test_half_precision_inputs_are_computed_in_float32():
    blocks = diagonal_blocks(5, 5)
    inputs, weight = (x.float() for x in _random(blocks))
    with torch.autocast("cpu", torch.bfloat16):
        found = block_lstm(inputs.bfloat16(), weight, blocks)
    assert found.dtype == torch.bfloat16
    expected = block_lstm(inputs.bfloat16().float(), weight, blocks)
    torch.testing.assert_close(found, expected.bfloat16(), rtol=0, atol=0)
