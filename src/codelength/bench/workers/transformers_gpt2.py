"""GPT-2 over bytes in transformers: training steps, or generation with its cache."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from serve import serve
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel

START = 256  # token 256 stands before the first byte


def prepare(options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Options: layers, width, heads, context, batch, steps, threads, generate, file (.npz, to which weights and results go)."""
    torch.set_num_threads(options["threads"])
    torch.manual_seed(0)
    context, batch = options["context"], options["batch"]
    config = GPT2Config(
        vocab_size=START + 1,
        n_positions=context,
        n_embd=options["width"],
        n_layer=options["layers"],
        n_head=options["heads"],
        attn_pdrop=0.0,
        bos_token_id=START,
        eos_token_id=None,
        pad_token_id=None,
    )
    model = GPT2LMHeadModel(config)
    x = torch.from_numpy(np.load(options["file"])["x"]).long()
    start = torch.full((batch, 1), START)

    def loss(x: torch.Tensor) -> torch.Tensor:
        inputs = torch.cat([start[:1].expand(len(x), 1), x[:, :-1]], dim=1)
        logits = model(input_ids=inputs, use_cache=False).logits[..., :START]
        return cross_entropy(logits.flatten(0, 1), x.flatten(), reduction="none").view(x.shape).sum(1)

    def generate(n: int, greedy: bool, length: int) -> torch.Tensor:
        drawn = model.generate(
            start[:1].expand(n, 1),
            attention_mask=torch.ones(n, 1),
            do_sample=not greedy,
            **({} if greedy else {"top_k": 0}),
            min_new_tokens=length,
            max_new_tokens=length,
            suppress_tokens=[START],
        )
        return drawn[:, 1:]

    model.eval()
    with torch.no_grad():
        results: dict[str, Any] = {
            "nats": loss(x[:4]).numpy(),
            "greedy": generate(1, True, min(context - 1, 64)).numpy(),
        }
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    np.savez(options["file"], **results, **arrays)
    if options["generate"]:

        def draw() -> None:
            generate(batch, False, context - 1)

        return draw, {}

    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def work() -> None:
        for _ in range(options["steps"]):
            total = loss(x[torch.randint(len(x), (batch,))]).mean()
            optimizer.zero_grad()
            total.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            assert torch.isfinite(total)

    return work, {}


if __name__ == "__main__":
    serve(prepare)
