"""Checks of densities off the lattice and at the ends of their support."""

from __future__ import annotations

import torch
from torch import Tensor

from codelength.audit.context import Context
from codelength.audit.verdict import Findings

SPIKE_NATS_A_DIM = 0.7
SPIKE_CAUSE = "a density trained on integers without dequantization noise: it grows without limit where the data lie"
SUPPORT_CAUSE = "bins of width 1/255 where the noise or the constant is for 1/256, or noise that leaves gaps"


def check_spikes(context: Context, found: Findings) -> None:
    """The density at the integers against that a quarter and half a bin away, only where the integer is inside the range."""
    space, generator = context.inputs.space, context.inputs.generator("spikes")
    x = torch.cat([context.inputs.data(16), context.inputs.noise(16, "spikes").clamp(min=space.offset + 1)])
    inside = x > space.offset
    x, inside = x[inside.flatten(1).any(1)], inside[inside.flatten(1).any(1)]
    base = torch.where(inside, x.double(), x.double() + 0.5).to(context.subject.real_dtype)
    lattice = context.subject.density_anywhere(base)
    off = []
    for step in (0.25, 0.5, 0.25, 0.4):
        sign = torch.from_numpy(generator.choice([-1.0, 1.0], size=tuple(x.shape)))
        off.append(context.subject.density_anywhere(base + (step * sign * inside).to(base.dtype)))
    dims = inside.flatten(1).sum(1)
    ratio = (lattice - torch.stack(off).amax(0)) / dims
    ratio = ratio[lattice.isfinite() & ~ratio.isnan()]
    if not len(ratio):
        found.note("no datum with finite density inside the range to look for spikes")
        return
    on_data = ratio[: max(1, len(ratio) // 2)]
    spike = max(float(on_data.median()), float(ratio.median()))
    found.evidence["lattice_minus_off_lattice_nats_a_dim"] = spike
    if spike > SPIKE_NATS_A_DIM:
        found.fail(
            f"the density is higher at the integers than beside them by {spike:.3g} nats in every dim: spikes",
            SPIKE_CAUSE,
        )
    else:
        found.passed("the density has no spikes at the integers")


def check_support(context: Context, found: Findings) -> None:
    """A density that has mass in the bin next to the lowest or highest one has mass in all of that one too."""
    space, dtype = context.inputs.space, context.subject.real_dtype
    inner = context.inputs.data(4).to(dtype) + 0.5
    inner = inner.clamp(space.offset + 0.5, space.offset + space.levels - 1.5)
    steps = [0.005, 0.02, 0.25, 0.5, 0.75, 0.98, 0.995]
    ends = {"lowest": (1.02, steps), "highest": (-0.02, steps)}
    for name, (beside, inside) in ends.items():
        level = space.offset if name == "lowest" else space.offset + space.levels - 1
        neighbour = _density_with_first_dim(context, inner, level + beside)
        values = torch.stack([_density_with_first_dim(context, inner, level + step) for step in inside])
        values = values[:, neighbour.isfinite()]
        if not values.numel():
            continue
        share = float(values.isfinite().double().mean())
        found.evidence[f"share_of_{name}_bin_with_mass"] = share
        if share < 1:
            found.fail(f"the support ends in the {name} bin: {share:.0%} of it has mass", SUPPORT_CAUSE)
            return
    found.passed("the support does not end inside a bin")


def _density_with_first_dim(context: Context, y: Tensor, value: float) -> Tensor:
    """Log density of y with its first dim set to a value, (n,)."""
    flat = y.flatten(1).clone()
    flat[:, 0] = value
    return context.subject.density_anywhere(flat.reshape(y.shape))
