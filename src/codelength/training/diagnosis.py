"""Where a NaN or an infinity first appeared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from codelength.errors import TrainingError


def non_finite_error(
    step: int, loss: float, gradient_norm: float, model: nn.Module, objective: Callable[[], Tensor]
) -> TrainingError:
    """The error for a step whose loss or gradient is not finite: it names the step and the first layer at fault.

    Args:
        step: The step.
        loss: Its loss.
        gradient_norm: Norm of its gradient.
        model: The model, with the weights that the step began with.
        objective: Computes the step's loss again.
    """
    where = first_non_finite(model, objective)
    what = f"loss is {loss}" if loss != loss or abs(loss) == float("inf") else f"gradient norm is {gradient_norm}"
    return TrainingError(
        f"step {step}: the {what}; {where}. The last checkpoint is kept; lower the learning rate, set training.clip_norm "
        "or lengthen the warm-up"
    )


def first_non_finite(model: nn.Module, objective: Callable[[], Tensor]) -> str:
    """Name the first layer, in the order of computation, with a non-finite parameter, output or gradient."""
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            return f"the parameter {name} was already not finite"
    forward: list[str] = []
    backward: list[str] = []
    with _watch(model, forward, backward):
        loss = objective()
        if forward:
            return f"the first layer with a non-finite output is {forward[0]}"
        if not loss.isfinite():
            return f"every layer's output is finite, so it arose in the likelihood of {type(model).__name__}"
        model.zero_grad(set_to_none=True)
        loss.backward()
    if backward:
        return f"the first layer, going backwards, with a non-finite gradient of its output is {backward[0]}"
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            return f"the first parameter with a non-finite gradient is {name}"
    return "computed again, the step is finite: the arithmetic of this machine is not deterministic"


class _watch:
    """Hooks on every layer that note its name when an output, or the gradient of an output, is not finite."""

    def __init__(self, model: nn.Module, forward: list[str], backward: list[str]) -> None:
        self.forward, self.backward = forward, backward
        self.handles = [m.register_forward_hook(self._hook(name)) for name, m in model.named_modules() if name]

    def _hook(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            label = f"{name} ({type(module).__name__})"
            for tensor in _floats(output):
                if not tensor.isfinite().all():
                    self.forward.append(label)
                if tensor.requires_grad:
                    tensor.register_hook(lambda g: None if g.isfinite().all() else self.backward.append(label))

        return hook

    def __enter__(self) -> None:
        return None

    def __exit__(self, *error: object) -> None:
        for handle in self.handles:
            handle.remove()


def _floats(output: Any) -> Iterator[Tensor]:
    """Floating-point tensors inside a layer's output."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, dict):
        for value in output.values():
            yield from _floats(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from _floats(value)
