"""constriction's own batch interface: a range coder over symbols with one table each."""

from __future__ import annotations

from typing import Any

import constriction
import numpy as np
from serve import Stopwatch, serve


def prepare(options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Options: file of the base tables and symbols (.npz), parts."""
    stored = np.load(options["file"])
    base, symbols = stored["tables"], stored["symbols"]
    family = constriction.stream.model.Categorical(perfect=False)
    sizes: list[int] = []

    def work() -> dict[str, float]:
        watch = Stopwatch()
        encoder = constriction.stream.queue.RangeEncoder()
        for part in range(options["parts"]):
            tables = np.roll(base, 13 * part, axis=1)
            with watch:
                encoder.encode(symbols[part], family, tables)
        stream = encoder.get_compressed()
        decoder = constriction.stream.queue.RangeDecoder(stream)
        for part in range(options["parts"]):
            tables = np.roll(base, 13 * part, axis=1)
            with watch:
                decoded = decoder.decode(family, tables)
            assert np.array_equal(decoded, symbols[part])
        sizes.append(4 * len(stream))
        return watch.times

    work()
    return work, {"bytes": sizes[0]}


if __name__ == "__main__":
    serve(prepare)
