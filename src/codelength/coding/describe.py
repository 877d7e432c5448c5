"""What a compressed file says of itself, for people and programs."""

from __future__ import annotations

import math
from typing import Any

from codelength.coding.codec import Archive
from codelength.coding.container import VERSION
from codelength.units import bits_per_dim


def coded_bits_per_dim(total_bytes: int, num_dims: int) -> float:
    """Bits/dim of a file of `total_bytes` that holds `num_dims` integers.

    >>> coded_bits_per_dim(784, 784)
    8.0
    """
    return bits_per_dim(8 * total_bytes * math.log(2), num_dims)


def describe(archive: Archive) -> dict[str, Any]:
    """Header, index and sizes of a file as plain JSON values; `bits_per_dim` counts every byte of it."""
    header, container = archive.header, archive.container
    sizes = header.layout.get("sizes") if header.layout.get("kind") in ("files", "wav") else None
    dims = sum(sizes) if sizes else header.items * header.space.num_dims  # the last item of text is filled up
    return {
        "format": VERSION,
        "codec": header.codec,
        "items": header.items,
        "shape": list(header.space.sizes),
        "levels": header.space.levels,
        "dtype": header.dtype,
        "bytes": container.size,
        "payload_bytes": sum(chunk.length for chunk in container.chunks),
        "raw_bytes": dims * archive.dtype.itemsize,
        "bits_per_dim": coded_bits_per_dim(container.size, dims) if dims else None,
        "chunks": len(container.chunks),
        "model": header.model,
        "model_sha256": header.model_sha256,
        "data_sha256": container.data_sha256,
        "machine": header.machine,
        "threads": header.threads,
        "batch": header.batch,
        "layout": header.layout,
        "conditions": list(header.conditions),
    }


def size_line(record: dict[str, Any]) -> str:
    """The one line that `compress` prints."""
    rate = "" if record["bits_per_dim"] is None else f", {record['bits_per_dim']:.4f} bits/dim"
    share = f", {100 * record['bytes'] / record['raw_bytes']:.1f} % of the raw integers" if record["raw_bytes"] else ""
    return f"{record['file']}: {record['items']} items in {record['bytes']:,} bytes{rate}{share}"


def lines(record: dict[str, Any]) -> list[str]:
    """The lines that `info` prints."""
    shape = " x ".join(map(str, record["shape"]))
    layout = record["layout"]
    names = layout.get("names") or [layout.get("name", "items.npy")]
    shown = ", ".join(repr(name) for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    machine = ", ".join(f"{name} {value}" for name, value in record["machine"].items()) or "any machine"
    conditions = [f"told     {', '.join(record['conditions'])} of each item, held in the file"]
    return [
        size_line(record),
        f"items    {shape}, {record['levels']} levels, {record['dtype']}; {layout.get('kind', 'array')} {shown}",
        f"format   {record['format']}, codec {record['codec']}, {record['chunks']} chunks, {record['payload_bytes']:,} bytes of them",
        f"model    {record['model'] or 'unnamed'}, SHA-256 {record['model_sha256']}",
        f"needs    {machine}; threads {record['threads']}, batch {record['batch']}",
        f"data     SHA-256 {record['data_sha256']}",
        *(conditions if record["conditions"] else []),
    ]
