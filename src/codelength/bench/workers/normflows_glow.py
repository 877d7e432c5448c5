"""Training steps of Glow in normflows, as its documentation builds it."""

from __future__ import annotations

from typing import Any

import normflows as nf
import torch
from serve import serve


def prepare(options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Options: shape, scales, depth, filters, batch, steps, threads."""
    torch.set_num_threads(options["threads"])
    torch.manual_seed(0)
    channels, height, width = options["shape"]
    scales = options["scales"]
    bases, merges, flows = [], [], []
    for i in range(scales):
        deep = channels * 2 ** (scales + 1 - i)
        steps = [
            nf.flows.GlowBlock(deep, options["filters"], split_mode="channel", scale=True)
            for _ in range(options["depth"])
        ]
        flows.append([*steps, nf.flows.Squeeze()])
        if i > 0:
            merges.append(nf.flows.Merge())
            side = 2 ** (scales - i)
            shape = (channels * side, height // side, width // side)
        else:
            side = 2**scales
            shape = (channels * side * 2, height // side, width // side)
        bases.append(nf.distributions.DiagGaussian(shape))
    model = nf.MultiscaleFlow(bases, flows, merges)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    x = torch.randint(0, 256, (options["batch"], channels, height, width))

    def work() -> None:
        for _ in range(options["steps"]):
            noisy = (x + torch.rand(x.shape)) / 256
            loss = model.forward_kld(noisy)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            assert torch.isfinite(loss)

    work()
    return work, {"parameters": sum(p.numel() for p in model.parameters() if p.requires_grad)}


if __name__ == "__main__":
    serve(prepare)
