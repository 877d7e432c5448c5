"""Fetch the official files of a data set, with checksums and retries."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from pathlib import Path

from codelength.data.checksums import cache_folder, verify
from codelength.data.official import OFFICIAL, OfficialFile, find_file
from codelength.data.registry import ENTRIES
from codelength.errors import ChecksumError, DataError, UsageError, unknown_name

RETRIES = 3
SECONDS = 60  # without a byte from the server before it counts as failed


def fetch_data(
    name: str,
    base_url: str | None = None,
    *,
    files: Mapping[str, OfficialFile] | None = None,
    retries: int = RETRIES,
) -> Path:
    """Fetch the official files of a data set into the cache; those that are here already are only checked.

    Args:
        name: Name of the data set; for a binarized form the files of the grey one, for mnist-static its own.
        base_url: Folder of a mirror, in place of the official addresses.
        files: The files to fetch, in place of those of `name`.
        retries: Further attempts after one that failed.

    Returns:
        The folder that holds them.

    Raises:
        UsageError: Unknown data set.
        ChecksumError: What came is not the published file; it is not kept.
        DataError: A file could not be fetched.
    """
    folder = name
    if files is None:
        if name not in ENTRIES:
            raise unknown_name("data set", name, ENTRIES)
        if ENTRIES[name].folder is None:
            raise UsageError(f"data set {name!r} is inside the installed packages; there is nothing to fetch")
        folder = str(ENTRIES[name].folder)
        files = OFFICIAL[folder]
    target = cache_folder() / folder
    for file in files.values():
        here = find_file(folder, file.forms)
        if here is not None:
            verify(here, file.forms[here.name])
            print(f"{here} is here", file=sys.stderr)
            continue
        if not (base_url or file.url):
            raise DataError(
                f"{file.fetched} is published inside an archive only, which has no checksum; unpack it into {target}, or "
                "give a mirror of the unpacked file with --url"
            )
        _fetch(file, base_url or file.url, target, retries)
    return target


def _fetch(file: OfficialFile, base_url: str, target: Path, retries: int) -> None:
    import pooch

    pooch.get_logger().setLevel(logging.ERROR)
    base_url = base_url.rstrip("/") + "/"
    print(f"fetching {base_url}{file.fetched}", file=sys.stderr)
    keeper = pooch.create(
        path=target,
        base_url=base_url,
        registry={file.fetched: file.forms[file.fetched]},
        retry_if_failed=retries,
        allow_updates=False,
    )
    try:
        path = Path(keeper.fetch(file.fetched, downloader=_download))
    except ValueError as error:
        if "hash" not in str(error):
            raise DataError(f"cannot fetch {base_url}{file.fetched}: {error}") from error
        raise ChecksumError(
            f"{base_url}{file.fetched} is not the published file ({file.forms[file.fetched]}); it was not kept. "
            "Try again, or another mirror with --url"
        ) from error
    except OSError as error:  # requests' errors are OSErrors
        raise DataError(
            f"cannot fetch {base_url}{file.fetched} ({' '.join(str(error).split())}); check the network, give a mirror "
            f"with --url, or put the file into {target}"
        ) from error
    verify(path, file.forms[file.fetched])


def _download(url: str, output_file: str, keeper: object) -> None:
    """Copy `url` into a file; pooch's own downloader leaves the connection open when the server says no."""
    import requests

    with requests.get(url, stream=True, timeout=SECONDS) as response, open(output_file, "wb") as file:
        response.raise_for_status()
        for block in response.iter_content(2**20):
            file.write(block)
