"""Keys and values kept from step to step, as few as a pattern will ever ask for again.

A plan gives every position a slot when it comes and frees the slot when no later query sees the position. So a sliding
window keeps its window, blocks their memory, summaries the summaries, and only patterns that look back without end keep
everything.

Positions come in groups (the channels of a site). Slots are freed between groups only, so that the positions of the
current group can be computed again with other values.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from codelength.nn.attention_patterns import Pattern


@dataclass(frozen=True)
class Read:
    """Which slots a query reads: a range of them, some of which a mask (1, range) may leave out, or a list."""

    slots: slice | Tensor
    mask: Tensor | None = None


@dataclass(frozen=True)
class CachePlan:
    """Slots of a pattern over a sequence.

    Args:
        size: Number of slots.
        write: Slot of each position.
        read: What each position's query reads, its own key included where it sees it.
    """

    size: int
    write: list[int]
    read: list[Read]


@lru_cache(maxsize=64)
def cache_plan(pattern: Pattern, length: int, group: int) -> CachePlan:
    """The plan for `length` positions that come in groups of `group`."""
    keys = [torch.as_tensor(pattern.keys(i), dtype=torch.long, device="cpu") for i in range(length)]
    last = torch.full((length,), -1, dtype=torch.long, device="cpu")  # the last query that sees each position
    for i, seen in enumerate(keys):
        last[seen] = i
    leaving: dict[int, list[int]] = {}
    for j, i in enumerate(last.tolist()):
        # A position that nobody sees stays until the group is over.
        leaving.setdefault(-(-(max(i, j) + 1) // group) * group, []).append(j)
    slot = torch.zeros(length, dtype=torch.long, device="cpu")
    free: list[int] = []
    size, read = 0, []
    for i, seen in enumerate(keys):
        for j in leaving.get(i, []):
            heapq.heappush(free, int(slot[j]))
        if not free:
            heapq.heappush(free, size)
            size += 1
        slot[i] = heapq.heappop(free)
        read.append(_read(slot[seen].sort().values))
    return CachePlan(size, slot.tolist(), read)


def _read(slots: Tensor) -> Read:
    """The quickest way to read these slots: copying them costs more than reading some that are masked."""
    low, high = int(slots[0]), int(slots[-1])
    step = int(slots[1] - slots[0]) if len(slots) > 1 else 1
    if bool((slots.diff() == step).all()):
        return Read(slice(low, high + 1, step))
    if 2 * len(slots) >= high + 1 - low:
        mask = torch.zeros(1, high + 1 - low, dtype=torch.bool, device="cpu")
        mask[0, slots - low] = True
        return Read(slice(low, high + 1), mask)
    return Read(slots)


class KeyValueCache:
    """The slots of n sequences; changed in place.

    Args:
        plan: Which position goes where.
        n: Number of sequences.
        heads, key, value: Number of heads, and the widths of one head's keys and values.
        like: Tensor of the type and device wanted.
    """

    def __init__(self, plan: CachePlan, n: int, heads: int, key: int, value: int, like: Tensor) -> None:
        self.plan = plan
        # Zeros, because slots that were never written are read where a mask leaves them out.
        self.keys = like.new_zeros(n, heads, plan.size, key)
        self.values = like.new_zeros(n, heads, plan.size, value)

    def step(self, position: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Keep a position's keys (n, heads, d) and values (n, heads, e), and attend from its queries: (n, heads, e)."""
        slot, read = self.plan.write[position], self.plan.read[position]
        self.keys[:, :, slot], self.values[:, :, slot] = k, v
        slots = read.slots if isinstance(read.slots, slice) else read.slots.to(q.device)
        mask = None if read.mask is None else read.mask.to(q.device)
        return F.scaled_dot_product_attention(
            q.unsqueeze(2), self.keys[:, :, slots], self.values[:, :, slots], attn_mask=mask
        ).squeeze(2)
