"""A discrete flow over an autoregressive base beside that base alone, on text of 27 characters: bits a character, JSON into results/.

    python benchmarks/discrete_flow_text.py FILE [--steps 3000] [--hidden 256]

FILE is a prefix of text8 (a to z and spaces); its first 90% train, the next 5% are not used, the last 5% are scored in disjoint windows of --window characters, each without what came
before it. The base is an LSTM; the flow adds bipartite layers of convolutions. Both take the same number of steps. A window's first characters have little before them: figures are above those of models
with long contexts (full text8, arXiv:1905.10347: 1.23).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codelength import Space
from codelength.models.discrete_flows.discrete_flow import DiscreteFlow

ALPHABET = b" abcdefghijklmnopqrstuvwxyz"
BATCH, RATE = 32, 3e-3
MODELS: dict[str, dict[str, Any]] = {
    "autoregressive base": {"layers": 0},
    "bipartite flow, autoregressive base": {"layers": 2},
}


def characters(content: bytes) -> np.ndarray:
    """Index of each character, (N,); raises ValueError where one is not a to z or a space."""
    table = np.full(256, 255, dtype=np.uint8)
    table[list(ALPHABET)] = np.arange(len(ALPHABET))
    found: np.ndarray = table[np.frombuffer(content.strip(b"\n"), dtype=np.uint8)]
    if found.max(initial=0) == 255:
        raise ValueError("the text holds characters other than a to z and spaces; give a prefix of text8")
    return found


def bits_per_character(model: DiscreteFlow, windows: Tensor) -> tuple[float, float]:
    """Mean and its standard error over windows."""
    with torch.no_grad():
        nats = -torch.cat([model.log_prob(part) for part in windows.split(64)])
    bits = nats / (windows.shape[1] * math.log(2))
    return float(bits.mean()), float(bits.std() / math.sqrt(len(bits)))


def run(
    train: np.ndarray, held_out: Tensor, window: int, hidden: int, steps: int, options: dict[str, Any]
) -> dict[str, Any]:
    """Train one model and score it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = DiscreteFlow(
            Space("sequence", (window,), len(ALPHABET)),
            network="sequence", base="autoregressive", hidden=[64], base_hidden=[hidden], kernel=7, **options,
        )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rng, start, curve = np.random.default_rng(0), time.process_time(), []
    for step in range(1, steps + 1):
        places = rng.integers(0, len(train) - window, BATCH)
        x = torch.from_numpy(np.stack([train[place : place + window] for place in places]).astype(np.int64))
        loss = -model.log_prob(x).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 100.0)
        optimizer.step()
        schedule.step()
        if step % max(1, steps // 10) == 0:
            curve.append([step, loss.item() / (window * math.log(2))])
            print(f"  step {step}: {curve[-1][1]:.3f} bits/character", flush=True)
    bits, error = bits_per_character(model, held_out)
    used: dict[str, Any] = {}
    if model.stack:
        scales = [scale[:, moved] for _, scale, moved in model.layer_parameters(held_out[:64])]
        latents = model.latents(held_out[:64])
        assert torch.equal(model.from_latents(latents), held_out[:64]), "the flow does not invert"
        used = {
            "share_of_scales_not_1": float(np.mean([float((scale != 1).float().mean()) for scale in scales])),
            "share_of_characters_moved": float((latents != held_out[:64]).float().mean()),
        }
    seconds = round(time.process_time() - start, 1)
    return {"bits_per_character": bits, "standard_error": error, **used, "cpu_seconds": seconds, "curve": curve}


def main() -> None:
    """Run both models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--scored", type=int, default=1000, help="windows")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "discrete_flow_text.json")
    arguments = parser.parse_args()
    if arguments.file is None:
        print("give a file that holds a prefix of text8")
        return
    torch.set_num_threads(1)
    text = characters(arguments.file.read_bytes())
    cut = len(text) * 9 // 10
    last = text[len(text) * 95 // 100 :]
    count = min(arguments.scored, len(last) // arguments.window)
    held_out = torch.from_numpy(last[: count * arguments.window].astype(np.int64)).view(count, arguments.window)
    results: dict[str, Any] = {
        "characters": len(text), "window": arguments.window, "hidden": arguments.hidden, "steps": arguments.steps, "windows_scored": count, "models": {},
    }  # fmt: skip
    for name, options in MODELS.items():
        print(name, flush=True)
        results["models"][name] = run(
            text[:cut], held_out, arguments.window, arguments.hidden, arguments.steps, options
        )
        print(f"  {results['models'][name]['bits_per_character']:.3f} bits/character", flush=True)
    arguments.out.write_text(json.dumps(results, indent=1) + "\n")
    print(arguments.out)


if __name__ == "__main__":
    main()
