"""What an archive says of itself, for people and programs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from codelength.archive.container import VERSION, is_archive
from codelength.archive.unpack import OpenArchive


def is_archive_file(path: Path) -> bool:
    """Whether a file starts as an archive does."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return is_archive(file.read(16))


def describe(path: Path) -> dict[str, Any]:
    """Directory and sizes as plain JSON values.

    `raw_bytes` counts bytes of files and whole bytes of pixels; `bits_per_number` is the whole file's bits over their number.
    """
    opened = OpenArchive(path)
    chunks, numbers, raw = opened.directory.chunks, 0, 0
    for entry in opened.directory.entries:
        for index, start, stop in entry.spans:
            shape = chunks[index].shape
            count = stop - start
            for size in shape[1:]:
                count *= size
            numbers += count
            raw += count * (2 if chunks[index].levels > 256 else 1)
    payload: Counter[str] = Counter()
    for chunk in chunks:
        payload[chunk.codec] += chunk.length
    return {
        "format": VERSION,
        "items": len(opened.directory.entries),
        "bytes": opened.size,
        "raw_bytes": raw,
        "bits_per_number": 8 * opened.size / numbers if numbers else None,
        "chunks": len(chunks),
        "payload_bytes": dict(payload),
        "models": [
            {"name": model.name, "sha256": model.sha256, "embedded": model.chunk is not None}
            for model in opened.directory.models
        ],
        "data_sha256": opened.directory.sha256,
        "entries": [
            {
                "name": entry.name,
                "kind": entry.kind,
                "codecs": sorted({chunks[index].codec for index, _, _ in entry.spans}),
            }
            for entry in opened.directory.entries
        ],
    }


def size_line(record: dict[str, Any]) -> str:
    """The one line that `compress` prints."""
    share = (
        f", {100 * record['bytes'] / record['raw_bytes']:.1f} % of the pixels and bytes" if record["raw_bytes"] else ""
    )
    return f"{record['file']}: {record['items']} files in {record['bytes']:,} bytes{share}"


def lines(record: dict[str, Any]) -> list[str]:
    """The lines that `info` prints."""
    payloads = ", ".join(f"{name} {count:,} bytes" for name, count in record["payload_bytes"].items())
    models = [
        f"model    {model['name']}, SHA-256 {model['sha256']}{', in the file' if model['embedded'] else ''}"
        for model in record["models"]
    ]
    shown = [
        f"item     {index}: {entry['name']!r}, {entry['kind']} by {', '.join(entry['codecs']) or 'nothing'}"
        for index, entry in enumerate(record["entries"][:20])
    ]
    rest = len(record["entries"]) - len(shown)
    return [
        size_line(record),
        f"format   {record['format']}, {record['chunks']} chunks: {payloads or 'none'}",
        *models,
        f"data     SHA-256 {record['data_sha256']}",
        *shown,
        *([f"         and {rest} more"] if rest else []),
    ]
