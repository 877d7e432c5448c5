"""Attention in blocks equals dense attention under the same mask, and computes no more scores than it says."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from codelength.nn.attention_patterns import (
    Full,
    GridBlocks,
    LocalBlocks,
    Strided,
    Summaries,
    dense_attention,
)

PATTERNS = [
    Full(),
    LocalBlocks(8, 8, 8),
    LocalBlocks(8, 0),
    LocalBlocks(6, 15),
    LocalBlocks(7, 3),
    LocalBlocks(48, 48),
    Strided(8),
    Strided(7),
    Summaries(8, 3),
    Summaries(8, 3, 1),
    Summaries(5, 5),
    GridBlocks(8, 6, (4, 3), (2, 1)),
    GridBlocks(4, 6, (2, 3), (2, 2), 2),
    GridBlocks(4, 4, (1, 4), (0, 0), 3),
]
LENGTH = 48


def _inputs(dtype: torch.dtype = torch.float64, length: int = LENGTH):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(3, length, d, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for d in (4, 4, 6)
    ]


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_attention_in_blocks_equals_dense_attention(pattern):
    inputs = _inputs()
    blocked, dense = pattern.attend(*inputs), dense_attention(*inputs, pattern.mask(LENGTH))
    assert (blocked - dense).abs().max() < 1e-10
    for a, b in zip(*(torch.autograd.grad(out.sin().sum(), inputs) for out in (blocked, dense)), strict=True):
        assert (a - b).abs().max() < 1e-10


@pytest.mark.parametrize("pattern", [p for p in PATTERNS if not isinstance(p, GridBlocks)], ids=str)
def test_lengths_need_not_be_multiples_of_blocks(pattern):
    for length in (1, 5, 45):
        inputs = _inputs(length=length)
        gap = pattern.attend(*inputs) - dense_attention(*inputs, pattern.mask(length))
        assert gap.abs().max() < 1e-10


@pytest.mark.parametrize(
    ("pattern", "other"),
    [(LocalBlocks(8, 8, 8), LocalBlocks(8, 8)), (Strided(8), Strided(6)), (Summaries(8, 3), Summaries(8, 3, 1))],
)
def test_the_comparison_sees_another_pattern(pattern, other):
    inputs = _inputs()
    assert (pattern.attend(*inputs) - dense_attention(*inputs, other.mask(LENGTH))).abs().max() > 1e-3


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_half_precision_on_cpus_computes_the_same_attention(pattern):
    """Another path of the code: plain products inside blocks. bfloat16 keeps 8 bits of the scores and of the result."""
    inputs = _inputs(torch.bfloat16)
    gap = pattern.attend(*inputs) - dense_attention(*(x.double() for x in inputs), pattern.mask(LENGTH))
    assert gap.abs().max() < 0.05


@pytest.mark.parametrize("pattern", [p for p in PATTERNS if not isinstance(p, Full)], ids=str)
def test_the_number_of_scores_is_what_the_products_cost(pattern):
    """The half-precision path is made of plain products, which the counter counts: 2 (d + e) operations a score."""
    with FlopCounterMode(display=False) as counter:
        pattern.attend(*_inputs(torch.bfloat16))
    assert counter.get_total_flops() == 3 * pattern.num_scores(LENGTH) * 2 * (4 + 6)


def test_windows_strides_and_summaries_are_the_papers_sets():
    """Sparse Transformer, section 4.3; the last blocks of the fixed pattern with the start symbol at position 0."""
    stride, summary = 8, 3
    for i in range(LENGTH):
        before = range(i + 1)
        assert list(LocalBlocks(stride, stride, stride).keys(i)) == [j for j in before if i - stride <= j]
        assert list(Strided(stride).keys(i)) == [j for j in before if (i - j) % stride == 0]
        assert list(LocalBlocks(stride, 0).keys(i)) == [j for j in before if j // stride == i // stride]
        assert list(Summaries(stride, summary).keys(i)) == [j for j in before if j % stride >= 5 or j == 0]


def test_image_blocks_see_their_memory_as_far_as_it_is_generated():
    """A block of 2 x 2 on 4 x 6 with a row above and a column to either side: the last site of the fifth block."""
    grid = GridBlocks(4, 6, (2, 2), (1, 1))
    sites = grid.sites()
    assert sites[:8] == [0, 1, 6, 7, 2, 3, 8, 9]
    place = sites.index(3 * 6 + 3)
    seen = {divmod(sites[j], 6) for j in grid.keys(place)}
    assert seen == {(r, c) for r in (1, 2, 3) for c in (1, 2, 3, 4)} - {(2, 4), (3, 4)}


def test_scores_fall_below_the_square():
    """At 3,072 positions with stride 128 the strided pair computes under 5 % of T x T scores, the fixed pair under 9 %."""
    length, stride = 3072, 128
    for near, far, most in (
        (LocalBlocks(stride, stride, stride), Strided(stride), 0.05),
        (LocalBlocks(stride, 0), Summaries(stride, 32), 0.1),
    ):
        assert (near.num_scores(length) + far.num_scores(length)) / (2 * length**2) < most
