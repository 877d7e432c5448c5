"""Training steps of a masked autoregressive flow with rational-quadratic splines in nflows."""

from __future__ import annotations

from typing import Any

import torch
from nflows.distributions.normal import StandardNormal
from nflows.flows.base import Flow
from nflows.transforms.autoregressive import MaskedPiecewiseRationalQuadraticAutoregressiveTransform
from nflows.transforms.base import CompositeTransform
from nflows.transforms.permutations import ReversePermutation
from serve import flow_steps, serve


def prepare(options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Options: dims, layers, hidden (two layers of one size), and those of `serve.flow_steps`."""
    torch.set_num_threads(options["threads"])
    torch.manual_seed(0)
    dims, layers = options["dims"], []
    for _ in range(options["layers"]):
        layers += [
            MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
                dims,
                options["hidden"][0],
                num_bins=8,
                tails="linear",
                tail_bound=5.0,
                num_blocks=1,
                use_residual_blocks=False,
            ),
            ReversePermutation(dims),
        ]
    flow = Flow(CompositeTransform(layers), StandardNormal([dims]))
    return flow_steps(flow, flow.log_prob, options)


if __name__ == "__main__":
    serve(prepare)
