"""Damaged archives: each must be refused or give back the original, never other data. `make fuzz` runs it.

python -m codelength.archive.fuzz [--count 20000]
"""

from __future__ import annotations

import argparse
import json
import resource
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from codelength.archive.container import DICTIONARY, END, FOOTER, PREAMBLE, _inflate, _seal
from codelength.archive.models import SHIPPED, open_model, shipped_names
from codelength.archive.unpack import OpenArchive
from codelength.errors import CodelengthError


def damaged_copies(content: bytes, other: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """`count` damaged copies: bits flipped, cut, bytes inserted or zeroed, spliced with `other`, and directories rewritten under a right seal,
    with lies about chunks or with the hash of another model."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        yield KINDS[index % len(KINDS)](content, other, rng)


def outcome(copy: bytes, original: list[bytes], scratch: Path) -> str:
    """ "refused" or "same"; raises AssertionError where other data come out."""
    scratch.write_bytes(copy)
    try:
        opened = OpenArchive(scratch)
        restored = [opened.restored(index) for index in range(len(opened.directory.entries))]
    except CodelengthError:
        return "refused"
    if restored != original:
        raise AssertionError("a damaged archive decodes to other data")
    return "same"


def _flip(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    out = bytearray(content)
    for place in rng.integers(0, len(out), rng.integers(1, 5)):
        out[place] ^= 1 << int(rng.integers(8))
    return bytes(out)


def _cut(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return content[: rng.integers(0, len(content))]


def _insert(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    place = int(rng.integers(0, len(content) + 1))
    return content[:place] + rng.bytes(int(rng.integers(1, 40))) + content[place:]


def _zero(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(0, len(content)))
    end = min(len(content), start + int(rng.integers(1, 60)))
    return content[:start] + bytes(end - start) + content[end:]


def _splice(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return content[: rng.integers(0, len(content))] + other[rng.integers(0, len(other)) :]


def _crafted(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Change a field of the directory and seal it rightly: lengths, shapes, levels, codecs, models, digests, spans."""
    fields, start = _fields(content)
    chunk = fields["chunks"][int(rng.integers(len(fields["chunks"])))]
    values = [0, -1, 1, 2, 3, 255, 2**16, 2**31, 2**40, 10**30, 1.5, "x", None, [], {}, True]
    value = values[int(rng.integers(len(values)))]
    key = ["shape", "levels", "bytes", "crc", "codec", "model", "digest", "size"][int(rng.integers(8))]
    if key == "size":
        chunk["shape"][int(rng.integers(len(chunk["shape"])))] = 2**11 if value == 2**16 else value
    elif key == "codec":
        chunk["codec"] = ["planes/1", "window/1", "window/2", "bytes/1", "none/9"][int(rng.integers(5))]
        chunk["levels"] = value if rng.random() < 0.5 else chunk["levels"]
    else:
        chunk[key] = value
    return _sealed(content, fields, start)


def _other_model(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Name another known model, or one that nobody has."""
    fields, start = _fields(content)
    hashes = [open_model(SHIPPED / name).sha256 for name in shipped_names()] + ["0" * 64]
    for model in fields["models"]:
        model["sha256"] = [known for known in hashes if known != model["sha256"]][int(rng.integers(len(hashes) - 1))]
    return _sealed(content, fields, start)


# Twenty copies: what passes the checksums, and so is decoded, takes most of the time.
KINDS = 3 * (_flip, _cut, _insert, _zero, _splice) + 4 * (_crafted,) + (_other_model,)


def _fields(content: bytes) -> tuple[dict[str, Any], int]:
    """The directory, and where it starts."""
    stored_bytes, text_bytes, _, _ = FOOTER.unpack(content[-FOOTER.size :])
    start = len(content) - FOOTER.size - stored_bytes
    return json.loads(_inflate(content[start : start + stored_bytes], text_bytes)), start


def _sealed(content: bytes, fields: dict[str, Any], start: int) -> bytes:
    """The file with another directory under a right seal."""
    text = json.dumps(fields).encode()
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=DICTIONARY)
    stored = deflate.compress(text) + deflate.flush()
    footer = struct.pack(FOOTER.format, len(stored), len(text), _seal(content[: PREAMBLE.size], stored), END)
    return content[:start] + stored + footer


def main() -> int:
    """Run the command in the module's docstring; prints a JSON line."""
    from codelength.archive.pack import pack

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        names = _write_files(base)
        pack([base / name for name in names], base / "a.clen")
        pack([base / name for name in reversed(names)], base / "b.clen")
        original = [OpenArchive(base / "a.clen").restored(index) for index in range(len(names))]
        content, other = (base / "a.clen").read_bytes(), (base / "b.clen").read_bytes()
        before, start = _peak(), time.process_time()
        slowest, counts = 0.0, Counter[str]()
        for copy in damaged_copies(content, other, count):
            began = time.process_time()
            counts[outcome(copy, original, base / "copy.clen")] += 1
            slowest = max(slowest, time.process_time() - began)
    record = {
        "count": count,
        **counts,
        "cpu_seconds": round(time.process_time() - start, 1),
        "slowest_seconds": round(slowest, 2),
        "memory_over_normal_mib": round((_peak() - before) / 1024, 1),
    }
    print(json.dumps(record))
    return int(record["memory_over_normal_mib"] > 256)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _write_files(base: Path) -> list[str]:
    """Small files of every kind."""
    import imagecodecs

    rng = np.random.default_rng(0)
    smooth = rng.normal(0, 6, (9, 9, 3)).cumsum(0).cumsum(1) / 3 + rng.normal(0, 2, (9, 9, 1)) + 128
    ramp = (np.indices((9, 9)).sum(0) * 4 + rng.integers(0, 4, (9, 9))).astype(np.uint8)
    coarse = ramp // 16 * 16
    contents = {
        "text.txt": b"one fish two fish red fish blue fish " * 8,
        "empty": b"",
        "grey.png": imagecodecs.png_encode(coarse),
        "rgb.png": imagecodecs.png_encode(np.stack([coarse, coarse // 2, coarse // 3], -1)),
        "grey16.png": imagecodecs.png_encode(ramp.astype(np.uint16) * 99),
        "smooth.png": imagecodecs.png_encode(smooth.clip(0, 255).astype(np.uint8)),
    }
    for name, content in contents.items():
        (base / name).write_bytes(content)
    return list(contents)


if __name__ == "__main__":
    sys.exit(main())
