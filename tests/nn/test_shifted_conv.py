"""Shifted convolutions against their definition, by sums over rows and columns; cached ones against those."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from codelength.nn.activations import Feature, concat_elu
from codelength.nn.cached_conv import CachedBlock, CachedConv, CachedGrow, CachedShrink, activate_last
from codelength.nn.gated_residual import GatedResidual
from codelength.nn.shifted_conv import PointwiseLinear, ShiftedConv, ShiftedTransposedConv

DOWN, RIGHT = ((2, 3), (1, 1)), ((2, 2), (1, 1))
KERNELS = [DOWN, RIGHT, ((2, 3), (2, 1)), ((1, 3), (1, 1)), ((2, 1), (1, 1))]


@pytest.fixture
def drawn(randomize):
    """drawn(layer): the layer in float64 with every parameter random."""

    def draw(layer: nn.Module) -> nn.Module:
        return randomize(layer.double())

    return draw


def _image(channels: int = 3, height: int = 4, width: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, channels, height, width, generator=generator, dtype=torch.float64)
    return x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("kernel", "before"), KERNELS)
def test_an_output_reads_the_rows_and_columns_stated(kernel, before, stride, drawn):
    conv, x = drawn(ShiftedConv(3, 5, kernel, before, stride=stride)), _image()
    out, weight = conv(x), conv.weight()
    assert out.shape == (2, 5, 4 // stride, 6 // stride)
    for i, j in itertools.product(range(out.shape[2]), range(out.shape[3])):
        expected = conv.bias.expand(2, -1).clone()
        for a, b in itertools.product(range(kernel[0]), range(kernel[1])):
            row, column = stride * i - before[0] + a, stride * j - before[1] + b
            if 0 <= row < 4 and 0 <= column < 6:
                expected += x[:, :, row, column] @ weight[:, :, a, b].T
        torch.testing.assert_close(out[:, :, i, j], expected)


@pytest.mark.parametrize(("kernel", "shift"), [((2, 3), 1), ((2, 2), 0)])
def test_a_transposed_convolution_spreads_each_input_over_its_block(kernel, shift, drawn):
    conv, x = drawn(ShiftedTransposedConv(3, 5, kernel)), _image(3, 2, 3)
    out, weight = conv(x), conv.weight()
    expected = conv.bias[None, :, None, None].expand(2, 5, 4, 6).clone()
    for i, j, a, b in itertools.product(range(2), range(3), range(kernel[0]), range(kernel[1])):
        column = 2 * j + b - shift
        if 0 <= column < 6:
            expected[:, :, 2 * i + a, column] += x[:, :, i, j] @ weight[:, :, a, b]
    torch.testing.assert_close(out, expected)


def test_weights_have_the_norm_of_their_gain(drawn):
    for layer, dims in ((ShiftedConv(3, 5, *DOWN), (1, 2, 3)), (ShiftedTransposedConv(3, 5, (2, 3)), (0, 2, 3))):
        drawn(layer)
        torch.testing.assert_close(torch.linalg.vector_norm(layer.weight(), dim=dims), layer.gain.abs())


def test_a_pointwise_map_of_several_inputs_is_that_of_them_side_by_side(drawn):
    layer, a, b = drawn(PointwiseLinear(7, 4)), _image(3), _image(4)
    torch.testing.assert_close(layer(a, b), layer(torch.cat([a, b], dim=1)))


def _by_rows(x: torch.Tensor) -> torch.Tensor:
    return x.permute(2, 0, 3, 1)  # (H, n, W, F)


def test_cached_convolutions_by_rows_and_by_pixels(drawn):
    x, extra = _image(), torch.randn(2, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        down, right = drawn(ShiftedConv(3, 5, *DOWN)), drawn(ShiftedConv(3, 5, *RIGHT))
        rows = CachedConv(down, 2, 6)
        for row, expected in zip(_by_rows(x), _by_rows(down(x)), strict=True):
            torch.testing.assert_close(rows.row(row), expected)
        pixels = CachedConv(right, 2, 6, extra)
        for row, expected in zip(_by_rows(x), _by_rows(right(x)), strict=True):
            pixels.start_row()
            for j in range(6):
                torch.testing.assert_close(pixels.pixel(j, row[:, j]), expected[:, j] + extra)


def test_cached_strides(drawn):
    x = _image()
    with torch.no_grad():
        down, right = drawn(ShiftedConv(3, 5, *DOWN, stride=2)), drawn(ShiftedConv(3, 5, *RIGHT, stride=2))
        rows, pixels = CachedShrink(down, 2, 6), CachedShrink(right, 2, 6)
        for i, row in enumerate(_by_rows(x)):
            rows.put_row(i, row)
            if i % 2 == 0:
                torch.testing.assert_close(rows.row(), _by_rows(down(x))[i // 2])
            for j in range(6):
                pixels.put_pixel(i, j, row[:, j])
                if i % 2 == 0 and j % 2 == 0:
                    torch.testing.assert_close(pixels.pixel(j), right(x)[:, :, i // 2, j // 2])
        down, right = drawn(ShiftedTransposedConv(3, 5, (2, 3))), drawn(ShiftedTransposedConv(3, 5, (2, 2)))
        for i in range(8):
            torch.testing.assert_close(CachedGrow(down).row(_by_rows(x)[i // 2], i), _by_rows(down(x))[i])
            for j in range(12):
                grown = CachedGrow(right).pixel(x[:, :, i // 2, j // 2], i, j)
                torch.testing.assert_close(grown, right(x)[:, :, i, j])


def test_cached_blocks_with_auxiliary_features_and_classes(drawn):
    x, first, second = _image(), _image() + 1, _image() - 1
    features = [concat_elu(first), concat_elu(second)]
    label = torch.tensor([1, 0])
    with torch.no_grad():
        right, down = drawn(GatedResidual(3, (2, 2), 2, 0.0, 2)), drawn(GatedResidual(3, (2, 3), 1, 0.0, 0))
        active = Feature(x, concat_elu(x))
        right_out, down_out = right(active, *features, label=label), down(active, features[0])
        pixels, rows = CachedBlock(right, 2, 6, label), CachedBlock(down, 2, 6, None)
        for i in range(4):
            row, aux, more = (_by_rows(t)[i] for t in (x, *features))
            got = rows.row(activate_last(row), aux)
            torch.testing.assert_close(got.value, _by_rows(down_out.value)[i])
            torch.testing.assert_close(got.active, _by_rows(down_out.active)[i])
            pixels.start_row(aux)
            for j in range(6):
                got = pixels.pixel(j, activate_last(row[:, j]), more[:, j])
                torch.testing.assert_close(got.value, right_out.value[:, :, i, j])
