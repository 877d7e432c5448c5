"""Two probes of causality, which must find a broken mask as well as pass a whole one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from codelength import Space


@pytest.fixture
def dependencies() -> Callable[..., Tensor]:
    """dependencies(outputs, space, images=1): whether the outputs of site t move with site s, (H * W, H * W) bool.

    By autograd, at so many random images: a unit that is off at one of them hides a dependency there.
    """

    def jacobian(outputs: Callable[[Tensor], Tensor], space: Space, images: int = 1) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(images, *space.sizes, generator=generator, dtype=torch.float64) * (space.levels - 1)
        out = outputs(x.requires_grad_())
        # A random projection of a site's outputs: it is zero only if all of them are.
        projection = torch.randn(out.shape[1], generator=generator, dtype=torch.float64)
        sites = torch.einsum("bphw,p->hw", out, projection).flatten()
        rows = [torch.autograd.grad(site, x, retain_graph=True)[0].abs().sum((0, 1)).flatten() for site in sites]
        return torch.stack(rows) != 0

    return jacobian


@pytest.fixture
def channel_dependencies() -> Callable[..., Tensor]:
    """channel_dependencies(model, space): whether the masses of a dim move with another, (H * W * C, H * W * C) bool.

    By autograd, for models with `outputs` and a `head`; dims site by site, the channels of a site side by side. Outputs of a
    head without channel groups count for every channel.
    """

    def jacobian(model: Any, space: Space) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(8, *space.sizes, generator=generator, dtype=torch.float64) * (space.levels - 1)
        out = model.outputs(x.requires_grad_())
        groups = out.unflatten(1, (model.head.groups, -1)).expand(-1, space.sizes[0], -1, -1, -1)
        projection = torch.randn(groups.shape[2], generator=generator, dtype=torch.float64)
        dims = torch.einsum("bcphw,p->hwc", groups, projection).flatten()
        rows = [torch.autograd.grad(d, x, retain_graph=True)[0].abs().sum(0).permute(1, 2, 0).flatten() for d in dims]
        return torch.stack(rows) != 0

    return jacobian


@pytest.fixture
def leaks() -> Callable[..., bool]:
    """leaks(model, order): whether a change of a site or of later ones, to either end of the range, moves its masses."""

    def probe(model: Any, order: Tensor) -> bool:
        space, steps = model.space, torch.arange(order.numel())[:, None, None, None]
        generator = torch.Generator().manual_seed(0)
        x = torch.randint(space.levels, (1, *space.sizes), generator=generator)
        query = torch.randint(space.levels, x.shape, generator=generator)
        kept = (order <= steps).expand(-1, space.sizes[0], -1, -1)

        def scores(images: Tensor) -> Tensor:
            # Always the same number of images, each in its place: where an image lies in a matrix moves its round-off.
            with torch.no_grad():
                return model.conditionals(images).log_prob_per_dim(query.expand_as(images))

        before = scores(x.repeat(len(steps), 1, 1, 1))[kept]
        return any(
            not torch.equal(scores(torch.where(order >= steps, end, x))[kept], before) for end in (0, space.levels - 1)
        )

    return probe
