"""Checks of our own transforms, trained or not: log|det J| against automatic differentiation, and the inverse's error."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from codelength.audit.context import Context
from codelength.audit.verdict import Findings
from codelength.transforms import Transform

SMALL_DIMS = 256
"""Up to here two data are always differentiated; beyond, one, if time allows."""
ROWS = 32
INVERSE_DATA = 4
LOG_DET_TOLERANCE = 1e-5
INVERSE_TOLERANCE = 1e-3
JACOBIAN_CAUSE = "a missing term of the preprocessing (logit, scale) or a wrong sign"
INVERSE_CAUSE = "an inverse of another formula than forward, or a scale so small that no precision undoes it"


def check_jacobians(context: Context, found: Findings) -> None:
    """log|det J| of every transform of our own that takes data, in float64."""
    gaps = []
    for transform in outermost(context.subject.precise):
        y = _accepted(transform, context, torch.float64)
        gap = None if y is None else _gap(transform, y, context, found)
        if gap is not None:
            gaps.append(gap)
    if not gaps:
        return
    worst = max(gaps)
    found.evidence |= {"transforms_differentiated": len(gaps), "log_det_max_error": worst}
    if worst > LOG_DET_TOLERANCE * max(1, context.inputs.space.num_dims / SMALL_DIMS):
        found.fail(
            f"a transform's log|det J| differs from automatic differentiation by {worst:.3g} nats", JACOBIAN_CAUSE
        )
    else:
        found.passed(f"log|det J| of {len(gaps)} transforms agrees with automatic differentiation")


def check_inverses(context: Context, found: Findings) -> None:
    """inverse(forward(y)) against y, in the units of y, in the model's own precision and in float64.

    The error in the model's own precision is evidence alone: what a sampler or codec may expect.
    """
    subject = context.subject
    errors: dict[str, list[float]] = {}
    for model in (subject.model, subject.precise):
        for transform in outermost(model):
            dtype = next((p.dtype for p in transform.parameters()), torch.float64)
            y = _accepted(transform, context, dtype)
            if y is not None:
                error = _round_trip(transform, y, context.subject.conditions(len(y)))
                errors.setdefault(str(dtype).removeprefix("torch."), []).extend([] if error is None else [error])
    found.evidence |= {f"inverse_max_error_{name}": max(values) for name, values in errors.items() if values}
    exact = errors.get("float64", [])
    if exact and not max(exact) <= INVERSE_TOLERANCE:
        found.fail(f"in float64 a transform's inverse misses its input by {max(exact):.3g}", INVERSE_CAUSE)
    elif exact:
        found.passed(f"inverses undo their transforms to {max(exact):.1e}")


def outermost(model: object) -> list[Transform]:
    """Transforms that are not part of another one."""
    if not isinstance(model, torch.nn.Module):
        return []
    transforms = [module for module in model.modules() if isinstance(module, Transform)]
    inner = {id(child) for transform in transforms for child in transform.modules() if child is not transform}
    return [transform for transform in transforms if id(transform) not in inner]


def _accepted(transform: Transform, context: Context, dtype: torch.dtype) -> Tensor | None:
    """Data the transform takes: reals of the levels, or of the unit interval; None where neither gives finite latents."""
    space = context.inputs.space
    x = context.inputs.data(INVERSE_DATA).to(dtype)
    for y in (x + 0.37, (x - space.offset + 0.37) / space.levels):
        try:
            with torch.no_grad():
                z, _ = transform(y, **context.subject.conditions(len(y)))
        except Exception:  # a transform inside a model may want another shape or a condition: others are part of it
            continue
        if bool(z.isfinite().all()) and z[0].numel() == y[0].numel():
            return y
    return None


def _round_trip(transform: Transform, y: Tensor, conditions: dict[str, Tensor]) -> float | None:
    """Largest |inverse(forward(y)) − y|; None where there is no inverse."""
    try:
        with torch.no_grad():
            back, _ = transform.inverse(transform(y, **conditions)[0], **conditions)
    except NotImplementedError:
        return None
    return float((back - y).abs().max())


def _gap(transform: Transform, y: Tensor, context: Context, found: Findings) -> float | None:
    """|log_det − slogdet| of the worst datum; None, with a note, where the budget is too small."""
    dims = y[0].numel()
    count = 2 if dims <= SMALL_DIMS else 1
    if dims > SMALL_DIMS:
        started = time.process_time()
        _rows(transform, y[0], range(ROWS), context)
        seconds = (time.process_time() - started) * dims / ROWS
        if seconds > context.seconds(0.3):
            found.note(f"a Jacobian of {dims} dims not differentiated: it would take {seconds:.0f} seconds")
            return None
    worst = 0.0
    for datum in y[:count]:
        parts = [range(i, min(i + ROWS, dims)) for i in range(0, dims, ROWS)]
        jacobian = torch.cat([_rows(transform, datum, part, context) for part in parts])
        with torch.no_grad():
            log_det = float(transform(datum[None], **context.subject.conditions(1))[1])
        worst = max(worst, abs(float(torch.linalg.slogdet(jacobian)[1]) - log_det))
    return worst


def _rows(transform: Transform, datum: Tensor, rows: range, context: Context) -> Tensor:
    """Rows of the Jacobian at one datum, (rows, D): one copy of the datum for each, differentiated in one pass."""
    with torch.enable_grad():
        copies = datum.detach().expand(len(rows), *datum.shape).clone().requires_grad_()
        z = transform(copies, **context.subject.conditions(len(rows)))[0].flatten(1)
        chosen = z[torch.arange(len(rows)), torch.tensor(list(rows))].sum()
        (gradient,) = torch.autograd.grad(chosen, copies)
    return gradient.flatten(1)
