"""P2: does each conditional look only at what was coded before it?

Every dim is changed and every conditional watched, which gives the matrix of dependencies: its diagonal must be empty (no conditional
sees its own target) and it must have no cycle (there is an order in which to code). In that order, whatever comes from a dim on is
then replaced at once, by data, noise and the ends of the range, and the conditionals up to it must not change in any bit.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from codelength.audit.context import Context
from codelength.audit.order import (
    ROUND_OFF,
    Dependencies,
    as_data,
    edges_between,
    measure,
    schedule_order,
    topological_order,
    usual_orders,
    violations,
)
from codelength.audit.verdict import Findings, Verdict

LEAK_CAUSE = (
    "a mask of type B where A belongs, a missing shift, channels in the wrong order, 'same' padding, attention without mask, "
    "normalization or pooling over positions, averaging over several orders, or a look-up keyed by the target"
)
ROUNDS = 40


def probe(context: Context) -> Verdict:
    """Dependencies by perturbation, order by sorting, suffixes by replacement."""
    found, subject = Findings("P2"), context.subject
    if not subject.has_table:
        found.note("the model gives no conditionals")
        return found.verdict()
    dependencies, threshold = _dependencies(context), ROUND_OFF[subject.in_float64]
    _own_target(found, dependencies, threshold)
    edges = dependencies.edges(threshold)
    np.fill_diagonal(edges, False)
    context.order = _settle(context, found, edges, threshold)
    found.evidence["dependencies"] = int(edges.sum())
    if not found.failed and dependencies.exact:
        _blind_spots(context, found, edges)
    return found.verdict()


def _dependencies(context: Context) -> Dependencies:
    inputs, dims = context.inputs, context.inputs.space.num_dims
    bases = torch.cat([inputs.data(1), inputs.noise(1, "p2"), inputs.mixed(1, "p2"), inputs.extremes()[-1:]])
    rows = context.affordable("conditionals", 2 * dims * len(bases), 0.1, 64)
    if rows >= 2 * dims:
        return measure(context, np.arange(dims), bases[: max(1, rows // (2 * dims))])
    rng = inputs.generator("p2-columns")
    columns = np.sort(rng.choice(dims, size=min(dims, max(16, rows // 4)), replace=False))
    return measure(context, columns, bases[:2])


def _own_target(found: Findings, dependencies: Dependencies, threshold: float) -> None:
    own = dependencies.change[dependencies.columns, np.arange(len(dependencies.columns))]
    found.evidence |= {"dims_perturbed": len(own), "own_target_max_change": float(own.max())}
    if own.max() > threshold:
        i = int(dependencies.columns[own.argmax()])
        found.fail(
            f"the conditional of dim {i} changes by {own.max():.3g} when dim {i} itself changes: it sees its target "
            f"({int((own > threshold).sum())} of {len(own)} dims)",
            LEAK_CAUSE,
        )


def _settle(context: Context, found: Findings, edges: np.ndarray, threshold: float) -> list[int] | None:
    """An order that stands the replacement of suffixes. Dependencies found on the way are added to `edges`.

    A perturbation of one datum need not show every dependency. So an order that a suffix contradicts is not yet a fault: the dims that
    did it become edges, and the dims are sorted again, until the order stands or there is a circle.
    """
    for attempt in range(ROUNDS):
        name, order = _sorted(context, edges)
        if order is None:
            pairs = np.argwhere(edges & edges.T)
            example = f", such as dims {pairs[0].tolist()} on each other" if len(pairs) else ""
            found.fail(
                f"dims depend on each other in a circle{example}: there is no order in which to code them", LEAK_CAUSE
            )
            return None
        found.evidence["order"] = name
        contradiction = _suffixes(context, found, order, threshold, attempt)
        if contradiction is None:
            if not found.failed:
                found.passed(f"no conditional depends on its own or a later dim (order: {name})")
            return None if found.failed else order
        more = edges_between(context, *contradiction, threshold)
        own = np.flatnonzero(more.diagonal())
        np.fill_diagonal(more, False)
        if len(own):
            if not found.failed:
                found.fail(f"the conditional of dim {own[0]} changes when dim {own[0]} itself changes", LEAK_CAUSE)
            return None
        if not (more & ~edges).any():
            break
        edges |= more
    if not found.failed:
        found.warn(f"no order of the dims stood after {attempt + 1} attempts", "an unusual order: give more --budget")
    return None


def _sorted(context: Context, edges: np.ndarray) -> tuple[str, list[int] | None]:
    """An order without forward edges: the model's own, a usual one, or any; None if there is a circle."""
    space, model = context.inputs.space, context.subject.model
    candidates = usual_orders(space)
    if context.subject.answers("schedule") and space.kind == "image":
        candidates = {"the model's schedule": schedule_order(model.schedule, space)} | candidates
    for name, order in candidates.items():
        if violations(edges, order) == 0:
            return name, order
    return "recovered from the dependencies", topological_order(edges)


def _suffixes(
    context: Context, found: Findings, order: list[int], threshold: float, attempt: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Replace everything from a dim on: conditionals up to and including it must be the same bit for bit.

    Each datum is tried with its suffix replaced at every place, or at random places if there are too many. Returns a datum and its
    replacement, (D,) each, that contradict the order; None if there are none.
    """
    inputs, space = context.inputs, context.inputs.space
    rng, place = inputs.generator("suffix", attempt), np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    tests = context.affordable("conditionals", 200 * space.num_dims, 0.04, 96)
    count = max(12, -(-tests // space.num_dims))
    x = torch.cat([inputs.data(count // 3), inputs.noise(count // 3, "suffix"), inputs.mixed(count // 3, "suffix")])
    flat = (x.flatten(1) - space.offset).numpy()[rng.permutation(len(x))]
    few = tests < space.num_dims
    starts = rng.choice(space.num_dims, tests, False) if few else np.arange(tests) % space.num_dims
    worst, rows = 0.0, max(1, 2**20 // (space.num_dims * space.levels))
    for first in range(0, tests, rows):
        start = starts[first : first + rows, None]
        which = first + np.arange(len(start))
        base = flat[(which if few else which // space.num_dims) % len(flat)]
        hybrid = np.where(place[None] >= start, _replacements(base, space.levels, rng), base)
        change = (_tables(context, hybrid) - _tables(context, base)).abs().amax(-1).numpy()
        early = np.where(place[None] <= start, change, 0.0)
        worst = max(worst, float(early.max()))
        if worst > threshold:
            row = int(early.max(1).argmax())
            return base[row], hybrid[row]
    found.evidence |= {"suffix_tests": tests, "suffix_max_change": worst}
    if worst > 0:
        found.warn(
            f"conditionals change by {worst:.1e} with later dims: round-off, but no codec could decode it",
            "sums over masked values in another order",
        )
    else:
        found.passed(f"{tests} replaced suffixes change no bit")
    return None


def _replacements(base: np.ndarray, levels: int, rng: np.random.Generator) -> np.ndarray:
    """Other values for every dim: noise, the ends of the range, or the range mirrored, a kind for each row."""
    kind = rng.integers(5, size=(len(base), 1))
    noise = rng.integers(levels, size=base.shape)
    constant = np.where(kind == 1, 0, levels - 1)
    return np.where(kind == 0, levels - 1 - base, np.where(kind <= 2, constant, noise))


def _tables(context: Context, flat: np.ndarray) -> Tensor:
    return context.subject.table(as_data(flat, context.inputs.space))


def _blind_spots(context: Context, found: Findings, edges: np.ndarray) -> None:
    """Near neighbours that no conditional ever looks at, although it looks at others: honest, but wasteful."""
    space = context.inputs.space
    found.evidence["mean_dependencies_a_dim"] = float(edges.sum() / len(edges))
    if space.kind != "image" or not edges.any() or min(space.sizes[1:]) < 3:
        return
    sites = np.arange(space.num_dims).reshape(space.sizes)
    neighbours = {"left or right": (sites[:, :, 1:], sites[:, :, :-1]), "upper or lower": (sites[:, 1:], sites[:, :-1])}
    for name, (a, b) in neighbours.items():
        seen = float((edges[a.ravel(), b.ravel()] | edges[b.ravel(), a.ravel()]).mean())
        found.evidence[f"sees_{name.replace(' ', '_')}_neighbour"] = seen
        if seen == 0 and name.startswith("left"):
            found.warn(f"no dim depends on its {name} neighbour: a blind spot", "masks cut off a whole direction")
        elif seen == 0:
            found.note(f"no dim depends on its {name} neighbour: a blind spot")
