"""Blocks in parallel and by steps, what caches keep, and activations computed again."""

from __future__ import annotations

import pytest
import torch

from codelength.errors import UsageError
from codelength.nn.attention import Attention, Block, Stack
from codelength.nn.attention_cache import KeyValueCache, cache_plan
from codelength.nn.attention_patterns import Full, GridBlocks, LocalBlocks, Strided, Summaries

PATTERNS = [
    Full(),
    LocalBlocks(6, 6, 6),
    LocalBlocks(6, 0),
    LocalBlocks(4, 9),
    Strided(5),
    Summaries(6, 2),
    GridBlocks(4, 6, (2, 3), (1, 1)),
]
LENGTH = 24


def _stack(patterns, randomize, layers=2, **options):
    blocks = [Block(Attention(8, 2, patterns, key_width=4), 8, 12, **options) for _ in range(layers)]
    return randomize(Stack(blocks, 8).double().eval())


def _input(n=3):
    return torch.randn(n, LENGTH, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@torch.no_grad()
def _by_steps(stack, x, group=1):
    caches = stack.caches(len(x), x.shape[1], group)
    return torch.stack([stack.step(x[:, i], i, caches) for i in range(x.shape[1])], dim=1)


@pytest.mark.parametrize("group", [1, 3])
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_steps_equal_the_parallel_pass(pattern, group, randomize):
    stack, x = _stack([pattern], randomize), _input()
    assert (_by_steps(stack, x, group) - stack(x)).abs().max() < 1e-12


def test_heads_may_have_patterns_of_their_own(randomize):
    stack, x = _stack([Strided(5), LocalBlocks(6, 6, 6)], randomize, pre=False, activation="relu"), _input()
    assert (_by_steps(stack, x) - stack(x)).abs().max() < 1e-12
    assert (stack(x) - _stack([Strided(5)], randomize, pre=False, activation="relu")(x)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("pattern", "slots"),
    [
        (Full(), 24),
        (LocalBlocks(6, 6, 6), 7),
        (LocalBlocks(6, 0), 6),
        (LocalBlocks(4, 8), 12),
        (Strided(5), 20),
        (Summaries(6, 2), 1 + 2 * 4),
    ],
    ids=str,
)
def test_caches_keep_what_will_be_seen_and_no_more(pattern, slots):
    """Where columns end, and before the last summary comes, a slot is free for what follows."""
    assert cache_plan(pattern, LENGTH, 1).size == slots


def test_a_group_may_be_computed_again_with_other_values(randomize):
    """The channels of a site are tried with other values before the right ones: nothing that is still seen is lost."""
    for pattern in PATTERNS:
        stack, x = _stack([pattern], randomize), _input()
        caches = stack.caches(len(x), LENGTH, 3)
        with torch.no_grad():
            for site in range(LENGTH // 3):
                for trial in (3 * torch.ones_like(x), x):
                    outs = [stack.step(trial[:, i], i, caches) for i in range(3 * site, 3 * site + 3)]
                assert (torch.stack(outs, 1) - stack(x)[:, 3 * site : 3 * site + 3]).abs().max() < 1e-12


def test_a_plan_that_frees_inside_a_group_is_found(randomize):
    stack, x = _stack([LocalBlocks(6, 6, 6)], randomize), _input()
    caches = stack.caches(len(x), LENGTH, 1)
    with torch.no_grad():
        for site in range(LENGTH // 3):
            for trial in (3 * torch.ones_like(x), x):
                outs = [stack.step(trial[:, i], i, caches) for i in range(3 * site, 3 * site + 3)]
    assert (torch.stack(outs, 1) - stack(x)[:, -3:]).abs().max() > 1e-3


def test_slots_are_read_whichever_way_is_quickest():
    """A range, a range with gaps, or a list; here scattered over many slots."""

    class Scattered(Full):
        def keys(self, i):
            return [0, i] if 0 < i < 19 else range(0, i + 1, 6) if i == 19 else [0]

    plan = cache_plan(Scattered(), 20, 20)
    kinds = [(isinstance(read.slots, slice), read.mask is not None) for read in plan.read]
    assert kinds[5] == (True, False)
    cache = KeyValueCache(plan, 1, 1, 2, 2, torch.zeros(1, dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(20, 1, 1, 2, generator=generator, dtype=torch.float64) for _ in range(3))
    for i in range(20):
        out = cache.step(i, q[i], k[i], v[i])
        keys = list(Scattered().keys(i))
        weights = (q[i] * k[keys, 0, 0] / 2**0.5).sum(-1).softmax(-1)
        assert (out - weights @ v[keys, 0, 0]).abs().max() < 1e-12


@pytest.mark.parametrize("pattern", [LocalBlocks(6, 6, 6), Strided(5), Summaries(6, 2)], ids=str)
def test_activations_computed_again_give_equal_gradients(pattern, randomize):
    """Dropout included: the second pass draws what the first one drew."""
    stack, x = _stack([pattern], randomize, dropout=0.25).train(), _input()
    gradients = []
    for stack.checkpoint in (False, True):
        torch.manual_seed(0)
        stack.zero_grad(set_to_none=True)
        stack(x).sin().sum().backward()
        gradients.append([p.grad for p in stack.parameters()])
    for kept, again in zip(*gradients, strict=True):
        assert torch.equal(kept, again)
    torch.manual_seed(1)
    stack.zero_grad(set_to_none=True)
    stack(x).sin().sum().backward()
    assert any(not torch.equal(a, p.grad) for a, p in zip(gradients[0], stack.parameters(), strict=True))


def test_activations_computed_again_take_less_memory():
    """What autograd keeps between the passes: the inputs of blocks only."""

    def kept(checkpoint: bool) -> int:
        stack = Stack([Block(Attention(8, 2, [Full()]), 8, 32) for _ in range(4)], 8, checkpoint=checkpoint).train()
        numbers = []

        def count(x):
            numbers.append(x.numel())
            return x

        with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
            stack(torch.randn(2, LENGTH, 8))
        return sum(numbers)

    assert kept(True) < kept(False) / 4


def test_misfits_are_refused():
    with pytest.raises(UsageError, match="multiples of heads"):
        Attention(8, 3, [Full()])
    with pytest.raises(UsageError, match="one a head"):
        Attention(8, 4, [Full(), Strided(2)])
