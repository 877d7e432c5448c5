"""Generation with keys and values kept against the whole pass again for every token: seconds, and whether the tokens are the same.

    python benchmarks/cached_generation.py -o benchmarks/results/cached-generation.json

Both draw with the same generator from a GPT-2 of the size of recipe tinyshakespeare-gpt2 with random weights, one sequence of 512 tokens, one thread, float64
(so that round-off picks no other token).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from codelength.evaluation.provenance import git_commit, library_versions
from codelength.models.registry import build_model
from codelength.space import Space

TOKENS = 512
OPTIONS = {"layers": 4, "width": 256, "heads": 4}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "-o", "--output", type=Path, default=Path(__file__).parent / "results" / "cached-generation.json"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = []
    for positions in ("learned", "rotary"):
        model = build_model("gpt2", Space("sequence", (TOKENS,), 65), positions=positions, **OPTIONS).double().eval()
        for parameter in model.parameters():
            parameter.data.add_(0.02 * torch.randn_like(parameter))
        start = time.process_time()
        cached = model.sample(1, torch.Generator().manual_seed(1))
        middle = time.process_time()
        generator, uncached = torch.Generator().manual_seed(1), torch.zeros((1, TOKENS), dtype=torch.long)
        with torch.no_grad():
            for t in range(TOKENS):
                channel = model.conditionals(uncached[:, : t + 1]).channel(0, uncached[:, None, :0])
                channel.logits = channel.logits[:, -1:]
                uncached[:, t] = channel.sample(generator)[:, 0]
        end = time.process_time()
        rows.append(
            {
                "positions": positions,
                "tokens": TOKENS,
                "cached_cpu_seconds": middle - start,
                "uncached_cpu_seconds": end - middle,
                "ratio": (end - middle) / (middle - start),
                "same_tokens": bool(torch.equal(cached, uncached)),
            }
        )
        print(rows[-1])
    result = {"options": OPTIONS, "rows": rows, "commit": git_commit(), "library_versions": library_versions()}
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
