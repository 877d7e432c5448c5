"""DRAW's filter banks against the paper's equations, written out for one pixel at a time."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from codelength.nn.attention_window import attention_window

HEIGHT, WIDTH, SIZE = 7, 9, 3
PARAMETERS = torch.tensor([[0.1, -0.3, 0.2, -0.9, 0.5]], dtype=torch.float64)


def squashed(value: float) -> float:
    return 8 * math.tanh(value / 8)


def equation_25(axis: str) -> Tensor:
    """F_X or F_Y of the paper by loops, pixels and filters numbered from 1."""
    gx, gy, log_variance, log_stride, _ = PARAMETERS[0].tolist()
    pixels, raw = (WIDTH, gx) if axis == "x" else (HEIGHT, gy)
    g = (pixels + 1) / 2 * (raw + 1)
    delta = (max(HEIGHT, WIDTH) - 1) / (SIZE - 1) * math.exp(squashed(log_stride))
    variance = math.exp(squashed(log_variance))
    rows = []
    for i in range(1, SIZE + 1):
        mu = g + (i - SIZE / 2 - 0.5) * delta
        row = [math.exp(-((a - mu) ** 2) / (2 * variance)) for a in range(1, pixels + 1)]
        rows.append([value / sum(row) for value in row])
    return torch.tensor(rows, dtype=torch.float64)


def test_filters_are_the_papers() -> None:
    window = attention_window(PARAMETERS, SIZE, HEIGHT, WIDTH)
    torch.testing.assert_close(window.columns[0], equation_25("x"), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(window.rows[0], equation_25("y"), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(window.columns[0].roll(1, 1), equation_25("x"), atol=1e-3), "a shift by a pixel is seen"


def test_read_and_write_are_the_papers() -> None:
    """Eqs. (27) and (29), and <read x, w> γ⁻² = <x, write w>: one is the other's transpose."""
    window, gamma = attention_window(PARAMETERS, SIZE, HEIGHT, WIDTH), math.exp(squashed(0.5))
    x, patch = torch.randn(1, 2, HEIGHT, WIDTH).double(), torch.randn(1, 2, SIZE, SIZE).double()
    rows, columns = equation_25("y"), equation_25("x")
    torch.testing.assert_close(window.read(x)[0, 1], gamma * rows @ x[0, 1] @ columns.T)
    torch.testing.assert_close(window.write(patch)[0, 0], rows.T @ patch[0, 0] @ columns / gamma)
    torch.testing.assert_close((window.read(x) * patch).sum() / gamma**2, (x * window.write(patch)).sum())


def test_zeros_span_the_image_and_far_windows_see_nothing() -> None:
    window = attention_window(torch.zeros(1, 5).double(), 4, 10, 10)
    centres = window.rows[0].argmax(1)
    assert centres.tolist() == [0, 3, 6, 9]
    far = attention_window(torch.tensor([[40.0, 0.0, -3.0, -3.0, 0.0]]), 2, 10, 10)
    assert far.columns.abs().max() == 0
    assert far.columns.isfinite().all()
    with pytest.raises(ValueError, match="wanted"):
        attention_window(torch.zeros(1, 4), 2, 5, 5)
