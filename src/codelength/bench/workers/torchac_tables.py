"""torchac: an arithmetic coder over symbols with one CDF each."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from serve import Stopwatch, serve


def load() -> Any:
    """torchac, which compiles itself by ninja when it is imported, and asks for no optimization: it gets -O3 here."""
    here = Path(sys.executable).parent
    compiler = here / "c++"
    if os.name != "nt" and not compiler.exists() and os.access(here, os.W_OK):
        compiler.write_text(f'#!/bin/sh\nexec {shutil.which("c++")} -O3 "$@"\n')
        compiler.chmod(0o755)
    os.environ["PATH"] = f"{here}{os.pathsep}{os.environ['PATH']}"
    import torchac

    return torchac


def prepare(options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Options: file of the base tables and symbols (.npz), parts, threads."""
    torch.set_num_threads(options["threads"])
    torchac = load()
    stored = np.load(options["file"])
    base, symbols = stored["tables"], torch.from_numpy(stored["symbols"]).to(torch.int16)
    sizes: list[int] = []

    def cdf(part: int) -> torch.Tensor:
        """Its interface wants CDFs: to add up the masses is not counted."""
        tables = torch.from_numpy(np.roll(base, 13 * part, axis=1))
        return torch.nn.functional.pad(tables.cumsum(1), (1, 0)).clamp(max=1).float()

    def work() -> dict[str, float]:
        watch, streams = Stopwatch(), []
        for part in range(options["parts"]):
            table = cdf(part)
            with watch:
                streams.append(torchac.encode_float_cdf(table, symbols[part], needs_normalization=True))
        for part in range(options["parts"]):
            table = cdf(part)
            with watch:
                decoded = torchac.decode_float_cdf(table, streams[part], needs_normalization=True)
            assert torch.equal(decoded, symbols[part])
        sizes.append(sum(map(len, streams)))
        return watch.times

    work()
    return work, {"bytes": sizes[0]}


if __name__ == "__main__":
    serve(prepare)
