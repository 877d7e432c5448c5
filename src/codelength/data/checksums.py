"""Checksums of official files, with a note of what was checked so that a file is hashed once."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

from codelength.errors import ChecksumError


def cache_folder() -> Path:
    """Where fetched data and the notes of checked files are kept; it need not exist."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("codelength"))


def file_digest(path: Path, algorithm: str) -> str:
    """Hexadecimal digest of a file, for algorithm "md5", "sha256" ..."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def verify(path: Path, checksum: str) -> None:
    """Compare a file with its published checksum.

    A file that passed is not hashed again while its size and time of change stay the same.

    Args:
        path: The file.
        checksum: "md5:...", "sha256:...", or "bytes:..." where only the size was published.

    Raises:
        ChecksumError: It is another file, or damaged.
    """
    notes_path = cache_folder() / "checked.json"
    key = str(path.resolve())
    state = path.stat()
    note = [state.st_size, state.st_mtime_ns, checksum]
    notes = _read_notes(notes_path)
    if notes.get(key) == note:
        return
    algorithm, wanted = checksum.split(":")
    got = str(state.st_size) if algorithm == "bytes" else file_digest(path, algorithm)
    if got != wanted:
        raise ChecksumError(
            f"{path} has {algorithm} {got} but the published file has {wanted}; it is damaged or another file: "
            "remove it and fetch it again"
        )
    _write_notes(notes_path, {**_read_notes(notes_path), key: note})


def _read_notes(path: Path) -> dict[str, list[object]]:
    try:
        notes = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}  # no notes, or damaged ones: files are hashed again, which is always right
    return notes if isinstance(notes, dict) else {}


def _write_notes(path: Path, notes: dict[str, list[object]]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".checked.")
        with os.fdopen(descriptor, "w") as file:
            json.dump(notes, file)
        os.replace(temporary, path)
    except OSError:
        return  # a cache that cannot be written costs time, not correctness
