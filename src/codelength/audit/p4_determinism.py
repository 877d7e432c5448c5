"""P4: does it give the same number again: at once, after other data, from a copy of its weights, in a new process?"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from codelength.adapters.file import is_file_spec, load_subject
from codelength.adapters.foreign import ForeignModel
from codelength.audit.context import Context, relative
from codelength.audit.fresh import fresh_scores
from codelength.audit.subject import Probed
from codelength.audit.verdict import Findings, Verdict
from codelength.errors import CodelengthError

TOLERANCE = 1e-6
# Another process or object may sum in another order; what is compared is the model as given, often in float32.
LOADED_TOLERANCE = 1e-5
AGAIN_CAUSE = (
    "dropout at evaluation (call .eval()), noise from the global generator, or a table that is filled while scoring"
)
STATE_CAUSE = (
    "parameters or statistics set by the first batch it sees (ActNorm whose flag is not saved), running averages updated at "
    "evaluation, or adaptation to the data being scored"
)
SAVED_CAUSE = "a flag, average or table that the state_dict does not hold, or a hash that differs between processes"


def probe(context: Context) -> Verdict:
    """Twice, after other data, with the state watched, rebuilt, and in a new process."""
    found = Findings("P4")
    _again(context, found)
    _untouched(context, found)
    _after_others(context, found)
    _rebuilt(context, found)
    return found.verdict()


def score(subject: Probed, model: Any, x: Tensor, seed: int) -> Tensor:
    """The model's numbers of x, whichever it has: log_prob, density at bin centres, and the bound of one seed."""
    parts = []
    if subject.has_log_prob:
        parts.append(subject.log_prob(x, model=model))
    if subject.has_density:
        dtype = subject.real_dtype if model is subject.precise else model.dtype
        parts.append(subject.density(x.to(dtype) + 0.5, model=model))
    if subject.has_bound and subject.is_mass:
        parts.append(subject.bound(x, 2, seed, model=model))
    if subject.has_table:
        parts.append(subject.table(x[:4], model=model).amax((1, 2)))
    return torch.cat(parts)


def _again(context: Context, found: Findings) -> None:
    subject, seed = context.subject, context.rng_seed("p4") % 2**62
    x = torch.cat([context.inputs.data(8), context.inputs.noise(8, "p4")])
    first = score(subject, subject.model, x, seed)
    torch.rand(7)  # move the global generator: nothing may depend on it
    worst = max(relative(score(subject, subject.model, x, seed), first) for _ in range(3))
    found.evidence["repeat_max_relative_difference"] = worst
    if worst > TOLERANCE:
        modes = [name or "itself" for name, module in _module(subject).named_modules() if module.training]
        found.evidence["modules_in_training_mode"] = len(modes)
        found.fail(f"the same data and seed score differently by {worst:.3g} (relative) when asked again", AGAIN_CAUSE)
    else:
        found.passed("asked again it answers the same")
    if subject.has_bound and subject.is_mass:
        other = subject.bound(x, 2, seed + 1, model=subject.model)
        found.evidence["bound_moves_with_seed"] = relative(other, subject.bound(x, 2, seed, model=subject.model))


def _module(subject: Probed) -> nn.Module:
    inner = subject.model.subject if isinstance(subject.model, ForeignModel) else subject.model
    return inner if isinstance(inner, nn.Module) else nn.Identity().eval()


def _untouched(context: Context, found: Findings) -> None:
    """Scoring writes to no parameter and no buffer."""
    module = _module(context.subject)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items() if isinstance(tensor, Tensor)}
    if not before:
        return
    context_x = torch.cat([context.inputs.noise(5, "touch"), context.inputs.extremes()])
    score(context.subject, context.subject.model, context_x, 0)
    after = module.state_dict()
    changed = [name for name, tensor in before.items() if not torch.equal(tensor, after[name])]
    found.evidence |= {"tensors_watched": len(before), "tensors_changed_by_scoring": len(changed)}
    if changed:
        found.fail(
            f"scoring changes {changed[0]} ({len(changed)} of {len(before)} parameters and buffers)", STATE_CAUSE
        )
    else:
        found.passed("scoring changes no parameter or buffer")


def _after_others(context: Context, found: Findings) -> None:
    """Untouched copies that see A first, or B first, must agree on A and on B."""
    pristine = context.subject.pristine
    if pristine is None:
        found.note("it cannot be copied, so the first batch was not varied")
        return
    subject, seed = context.subject, context.rng_seed("p4-order") % 2**62
    a = context.inputs.data(6)
    b = torch.cat([context.inputs.noise(3, "p4-order"), context.inputs.extremes()[:5]])
    one, two = copy.deepcopy(pristine), copy.deepcopy(pristine)
    a_first, b_second = score(subject, one, a, seed), score(subject, one, b, seed)
    b_first, a_second = score(subject, two, b, seed), score(subject, two, a, seed)
    worst = max(relative(a_first, a_second), relative(b_first, b_second))
    found.evidence["order_of_batches_max_relative_difference"] = worst
    if worst > TOLERANCE:
        found.fail(f"a batch scores differently by {worst:.3g} (relative) if another was scored before it", STATE_CAUSE)
    else:
        found.passed("what was scored before does not matter")


def _rebuilt(context: Context, found: Findings) -> None:
    """The model loaded again, here and in a new process, gives the same numbers."""
    spec = context.subject.spec
    if spec is None:
        found.note("not loaded again: it came as an object, not as a run or FILE.py:NAME")
        return
    subject, seed = context.subject, context.rng_seed("p4-load") % 2**62
    x = torch.cat([context.inputs.data(6), context.inputs.noise(6, "p4-load")])
    wanted = score(subject, subject.model, x, seed)
    same_here = True
    if is_file_spec(spec):
        same_here = _reload_here(context, found, x, seed, wanted)
    if not context.fresh_process:
        found.note("not loaded in a new process, as asked")
        return
    try:
        fresh = fresh_scores(spec, context.inputs.space, x, seed, _saved_state(subject, same_here))
    except CodelengthError as error:
        found.fail(f"it cannot be loaded and scored in a new process: {error}", SAVED_CAUSE)
        return
    worst = relative(fresh, wanted) if fresh.shape == wanted.shape else float("inf")
    found.evidence["new_process_max_relative_difference"] = worst
    if worst > LOADED_TOLERANCE:
        found.fail(f"loaded in a new process it scores differently by {worst:.3g} (relative)", SAVED_CAUSE)
    else:
        found.passed("loaded in a new process it answers the same")


def _reload_here(context: Context, found: Findings, x: Tensor, seed: int, wanted: Tensor) -> bool:
    """Build it again from its file; returns whether the file builds the same model each time."""
    subject = context.subject
    assert subject.spec is not None
    again = load_subject(subject.spec, context.inputs.space)
    again.eval()
    state, other = _module(subject).state_dict(), _module(Probed(again, context.inputs.space)).state_dict()
    same_state = state.keys() == other.keys() and all(torch.equal(state[name], other[name]) for name in state)
    if state and not same_state and state.keys() == other.keys():
        _module(Probed(again, context.inputs.space)).load_state_dict(state)
        found.warn(
            "the file builds a model with other weights at each call; its weights were copied to compare",
            "random weights without a seed: load trained ones",
        )
    worst = relative(score(subject, again, x, seed), wanted)
    found.evidence["built_again_max_relative_difference"] = worst
    if worst <= LOADED_TOLERANCE:
        found.passed("built again it answers the same")
    elif state:
        found.fail(f"built again with the same weights it scores differently by {worst:.3g} (relative)", SAVED_CAUSE)
    else:
        found.warn(
            f"built again it scores differently by {worst:.3g} (relative): the file builds another model at each call",
            "random weights without a seed: load trained ones",
        )
    return same_state and worst <= LOADED_TOLERANCE


def _saved_state(subject: Probed, same_here: bool) -> dict[str, Tensor]:
    """Weights to send along: needed only where the file does not build the same ones each time."""
    return {} if same_here else {k: v for k, v in _module(subject).state_dict().items() if isinstance(v, Tensor)}
