"""What integer modules compute from their buffers once, when they are first used: float copies, proofs, chosen kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from torch import Tensor, nn


class Derived(nn.Module):
    """A module whose buffers are integers and whose working copies follow from them.

    The copies are no buffers: they are not saved, and `.to(float64)` does not touch them, so that the arithmetic is the same whatever type
    the rest of a program runs in. They are dropped when the buffers change (loading, moving, `reset`).
    """

    def __init__(self) -> None:
        super().__init__()
        self._derived: dict[str, Any] | None = None
        self.register_load_state_dict_post_hook(lambda module, _: module.reset())

    def reset(self) -> None:
        """Forget the working copies: call it after an edit of the buffers."""
        self._derived = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.reset()
        return super()._apply(fn, recurse)

    def _derive(self) -> dict[str, Any]:
        raise NotImplementedError

    @property
    def derived(self) -> dict[str, Any]:
        """The working copies."""
        if self._derived is None:
            self._derived = self._derive()
        return self._derived
