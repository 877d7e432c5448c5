"""do(): latents set from outside instead of drawn (Pearl, "Causality", 2009, section 3.2).

p(x | do(z_l = v)) draws the layers above z_l from the model, puts v in place of z_l and goes on downwards. Conditioning,
p(x | z_l = v), would also change what is believed of the layers above.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from codelength.errors import UsageError, unknown_name

Setting = float | Tensor
_UNIT = re.compile(r"(.+)\[(\d+)\]")


class Interventions:
    """What `do` sets in a batch of n data.

    Args:
        layers: Layer -> shape of its latents.
        do: "layer" or "layer[unit]" -> value; units count the layer's latents in row-major order.
        n: Number of data.

    Raises:
        UsageError: A name or a value's shape does not fit; the known layers are listed.
    """

    def __init__(self, layers: Mapping[str, tuple[int, ...]], do: Mapping[str, Setting], n: int) -> None:
        self._set: dict[str, list[tuple[int | None, Tensor]]] = {}
        for name, value in do.items():
            layer, unit = parse_latent(name, layers)
            wanted = layers[layer] if unit is None else ()
            tensor = torch.as_tensor(value)
            if tensor.ndim and tuple(tensor.shape) not in (wanted, (n, *wanted)):
                raise UsageError(
                    f"do({name}): a value of shape {tuple(tensor.shape)}; wanted one number, {wanted} or {(n, *wanted)}"
                )
            self._set.setdefault(layer, []).append((unit, tensor))

    def apply(self, layer: str, z: Tensor) -> Tensor:
        """The layer's latents, (n, *shape), with what is set in place of what was drawn."""
        for unit, value in self._set.get(layer, []):
            value = value.to(z)
            if unit is None:
                z = value.expand_as(z)
            else:
                flat = z.flatten(1).clone()
                flat[:, unit] = value
                z = flat.view_as(z)
        return z


def parse_latent(name: str, layers: Mapping[str, tuple[int, ...]]) -> tuple[str, int | None]:
    """ "z2[7]" to ("z2", 7), "z2" to ("z2", None).

    Raises:
        UsageError: There is no such layer or unit.

    >>> parse_latent("z[3]", {"z": (8,)})
    ('z', 3)
    """
    match = _UNIT.fullmatch(name)
    layer, unit = (match.group(1), int(match.group(2))) if match else (name, None)
    if layer not in layers:
        raise unknown_name("layer of latents", layer, layers)
    count = math.prod(layers[layer])
    if unit is not None and unit >= count:
        raise UsageError(f"{name}: layer {layer} has the units 0..{count - 1}")
    return layer, unit
