"""The fresh process of `measure_coding`: `python -m codelength.coding.verify_worker FILE RUN OUT.npy`.

Knows nothing of the original data: it decodes FILE with the model of RUN, writes the array (and the
conditions beside it) and prints the seconds.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from codelength.coding.codec import Archive, dtype_of, load_coder
from codelength.coding.files import condition_file, npy_bytes
from codelength.errors import CodelengthError
from codelength.run import load_run, write_atomically


def main(arguments: list[str]) -> int:
    """Decode; returns the exit code."""
    file, run, out = map(Path, arguments)
    try:
        archive = Archive(file)
        model, model_sha256 = load_coder(load_run(run), dtype_of(archive.header))
        start = time.perf_counter()
        x = archive.decode(model, model_sha256=model_sha256)
        seconds = time.perf_counter() - start
        write_atomically(out, npy_bytes(x))
        for name, values in archive.conditions().items():
            write_atomically(condition_file(out, name), npy_bytes(values))
    except CodelengthError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps({"seconds": seconds}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
