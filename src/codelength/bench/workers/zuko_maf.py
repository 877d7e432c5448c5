"""Training steps of a masked autoregressive flow in zuko."""

from __future__ import annotations

from typing import Any

import torch
import zuko
from serve import flow_steps, serve


def prepare(options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Options: dims, layers, hidden, and those of `serve.flow_steps`."""
    torch.set_num_threads(options["threads"])
    torch.manual_seed(0)
    flow = zuko.flows.MAF(options["dims"], transforms=options["layers"], hidden_features=options["hidden"])
    return flow_steps(flow, lambda z: flow().log_prob(z), options)


if __name__ == "__main__":
    serve(prepare)
