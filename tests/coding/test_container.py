"""The container: small, read with care, and never other data than went in."""

from __future__ import annotations

import dataclasses
import io
import json
import random
import zlib

import numpy as np
import pytest

from codelength.coding import container
from codelength.coding.checksums import crc32c
from codelength.coding.codec import Archive, compress
from codelength.coding.container import (
    CHECKSUM,
    DICTIONARY,
    END,
    ENTRY,
    FOOTER,
    PREAMBLE,
    Container,
    Fingerprint,
    Header,
)
from codelength.data.dataset import Split
from codelength.errors import CodecError
from codelength.space import Space

HEADER = Header(
    codec="autoregressive/1",
    space=Space.image(1, 28, 28),
    model_sha256="ab" * 32,
    model="mnist5k-made",
    items=500,
    batch=512,
    threads=2,
    machine={"torch": "2.13.0+cpu", "isa": "AVX512", "cpu": "x86_64 AuthenticAMD", "dtype": "float32"},
    dtype="uint8",
    layout={"kind": "array", "name": "mnist5k-test.npy"},
)
LABELLED = {"kind": "image", "shape": [1, 4, 4], "levels": 256}


@pytest.fixture
def coded(tiny, images):
    """A model, images in three chunks, and their file."""
    model, x = tiny(side=4), images(20, side=4)
    return model, x, compress(model, x, chunk=8, layout={"kind": "images", "names": [f"{i}.png" for i in range(20)]})


def reassemble(content: bytes, *, preamble=None, fields=None, entries=None, trailer=None) -> bytes:
    """The file with some parts replaced and every checksum made right again: what an attacker would write."""
    parts = list(PREAMBLE.unpack(content[: PREAMBLE.size]))
    stored_bytes = parts[3]
    text = zlib.decompressobj(-15, zdict=DICTIONARY).decompress(content[PREAMBLE.size : PREAMBLE.size + stored_bytes])
    start = PREAMBLE.size + stored_bytes + CHECKSUM.size
    length, _, _ = FOOTER.unpack(content[-FOOTER.size :])
    payloads = content[start : -FOOTER.size - length]
    index = content[-FOOTER.size - length : -FOOTER.size]
    new = json.dumps({**json.loads(text), **(fields or {})}).encode() if not isinstance(fields, bytes) else fields
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=DICTIONARY)
    stored = deflate.compress(new) + deflate.flush()
    parts[3:5] = len(stored), len(new)
    for position, value in (preamble or {}).items():
        parts[position] = value
    head = PREAMBLE.pack(*parts) + stored
    head += CHECKSUM.pack(crc32c(head))
    if entries is not None:
        index = index[:32] + b"".join(ENTRY.pack(*entry) for entry in entries(list(ENTRY.iter_unpack(index[32:]))))
    index = index if trailer is None else trailer
    return head + payloads + index + FOOTER.pack(len(index), container._seal(head, index), END)


def test_the_frame_is_small() -> None:
    content = container.write_container(dataclasses.replace(HEADER, items=0), [])
    assert len(content) + ENTRY.size <= 200


def test_header_comes_back() -> None:
    spaces = [
        HEADER.space,
        Space("image", (3, 2, 2), 256, offset=-3, channels=("red", "green", "blue")),
        Space.image(1, 2, 2, 2),
    ]
    for space in [*spaces, spaces[2].with_binarization("static")]:
        header = dataclasses.replace(HEADER, space=space, items=0, layout={"kind": "images", "names": ["ä.png"]})
        assert Container(io.BytesIO(container.write_container(header, []))).header == header


def test_fingerprint_is_that_of_a_split() -> None:
    x = np.random.default_rng(0).integers(0, 65536, (2000, 1, 2, 2)).astype(np.uint16)
    fingerprint = Fingerprint(x.shape)
    for start in range(0, 2000, 300):
        fingerprint.update(x[start : start + 300])
    assert fingerprint.digest().hex() == Split(x).fingerprint()


def test_the_file_states_the_fingerprint(coded) -> None:
    _, x, content = coded
    assert Archive(content).container.data_sha256 == Split(x).fingerprint()


def outcome(model, x: np.ndarray, content: bytes) -> str:
    """Open and decode: "refused" or "exact"; anything else fails the test."""
    try:
        archive = Archive(content)
        decoded = archive.decode(model)
    except CodecError:
        return "refused"
    assert np.array_equal(decoded, x), "a damaged file decoded to other data"
    return "exact"


def test_the_undamaged_file_is_exact(coded) -> None:
    model, x, content = coded
    assert outcome(model, x, content) == "exact"
    assert outcome(model, x, reassemble(content)) == "exact"


def test_damaged_files_are_refused(coded, tiny) -> None:
    model, x, content = coded
    rng = random.Random(0)
    other = compress(tiny(side=4, seed=1), x[::-1], chunk=8)
    twin = compress(model, x[::-1].copy(), chunk=8)
    for trial in range(320):
        damaged = bytearray(content)
        where = rng.randrange(len(content))
        match trial % 8:
            case 0 | 1:
                damaged[where] ^= 1 << rng.randrange(8)
            case 2:
                damaged = damaged[:where]
            case 3:
                damaged[where:where] = rng.randbytes(rng.randint(1, 9))
            case 4:
                del damaged[where : where + rng.randint(1, 9)]
            case 5:
                damaged[where : where + 4] = rng.choice([b"\xff" * 4, b"\0" * 4, rng.randbytes(4)])
                if damaged == content:
                    continue
            case 6:
                donor = rng.choice([other, twin])
                cut = rng.randrange(1, min(len(content), len(donor)) - 1)
                damaged = damaged[:cut] + donor[cut:]
                if damaged in (content, donor):
                    continue
            case 7:
                damaged = bytearray(rng.randbytes(rng.randrange(0, 300)))
        assert outcome(model, x, bytes(damaged)) == "refused", trial


def test_every_single_flipped_byte_of_the_frame_is_noticed(coded) -> None:
    _, _, content = coded
    length, _, _ = FOOTER.unpack(content[-FOOTER.size :])
    head = PREAMBLE.size + PREAMBLE.unpack(content[: PREAMBLE.size])[3] + CHECKSUM.size
    for where in [*range(head), *range(len(content) - FOOTER.size - length, len(content))]:
        damaged = bytearray(content)
        damaged[where] ^= 0x10
        with pytest.raises(CodecError):
            Archive(bytes(damaged))


@pytest.mark.parametrize(
    "changes",
    [
        {"preamble": {1: 2}},
        {"preamble": {2: 1}},
        {"preamble": {3: 2**32 - 1}},
        {"preamble": {4: 2**32 - 1}},
        {"preamble": {4: 2**26}},
        {"preamble": {4: 5}},
        {"fields": {"items": 2**40}},
        {"fields": {"items": -1}},
        {"fields": {"items": True}},
        {"fields": {"batch": 0}},
        {"fields": {"batch": 2**40}},
        {"fields": {"threads": 10**9}},
        {"fields": {"codec": "future/9"}},
        {"fields": {"dtype": "object"}},
        {"fields": {"dtype": "int8"}},
        {"fields": {"machine": {"torch": "0.1"}}},
        {"fields": {"space": {"kind": "image", "shape": [1, 4, 4], "levels": 300}}},
        {"fields": {"space": {"kind": "image", "shape": None, "levels": 256}}},
        {"fields": {"space": {"kind": "image", "shape": [1, 10**9, 10**9], "levels": 256}}},
        {"fields": {"conditions": ["label"]}},
        {"fields": {"conditions": "label"}},
        {"fields": {"conditions": [["label"]]}},
        {"fields": {"conditions": ["../x"], "space": {**LABELLED, "conditions": {"../x": 2}}}},
        {"fields": {"conditions": ["label"], "space": {**LABELLED, "conditions": {"label": 2**40}}}},
        {"fields": {"conditions": ["label"], "space": {**LABELLED, "conditions": ["label"]}}},
        {"fields": {"conditions": ["label"], "space": {**LABELLED, "conditions": {"label": 2}}}},
        {"fields": b"[]"},
        {"fields": b"{" * 100},
        {"fields": b"[" * 20_000},
        {"fields": b"\xff\xfe"},
        {"entries": lambda e: [(2**32 - 1, *e[0][1:]), *e[1:]]},
        {"entries": lambda e: [(e[0][0], 2**32 - 1, *e[0][2:]), *e[1:]]},
        {"entries": lambda e: [(e[0][0], 0, *e[0][2:]), *e[1:]]},
        {"entries": lambda e: [(*e[0][:2], 7, e[0][3]), *e[1:]]},
        {"entries": lambda e: [(*e[0][:3], bytes(8)), *e[1:]]},
        {"entries": lambda e: [e[1], e[0], e[2]]},
        {"entries": lambda e: e[:2]},
        {"trailer": b""},
        {"trailer": bytes(40)},
    ],
)
def test_crafted_files_with_right_checksums_are_refused(coded, changes: dict) -> None:
    model, x, content = coded
    x = x.copy()
    x[0, 0, 0, 0] = 255  # so that int8 cannot hold the data
    content = compress(model, x, chunk=8, layout={"kind": "images", "names": [f"{i}.png" for i in range(20)]})
    assert outcome(model, x, reassemble(content, **changes)) == "refused"


def test_a_wrong_total_hash_is_refused(coded) -> None:
    model, x, content = coded
    length, _, _ = FOOTER.unpack(content[-FOOTER.size :])
    index = content[-FOOTER.size - length : -FOOTER.size]
    assert outcome(model, x, reassemble(content, trailer=bytes(32) + index[32:])) == "refused"


def test_a_header_too_long_is_refused() -> None:
    names = ["x" * 1000] * (container.MAX_HEADER // 1000)
    with pytest.raises(CodecError, match="fewer names"):
        dataclasses.replace(HEADER, layout={"kind": "images", "names": names}).to_bytes()
