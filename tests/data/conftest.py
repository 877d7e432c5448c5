"""Folders of their own for the cache and the official files, image makers, a web server on this machine."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no CODELENGTH_DATA."""
    folder = tmp_path / "cache"
    monkeypatch.setattr("codelength.data.checksums.cache_folder", lambda: folder)
    monkeypatch.setattr("codelength.data.official.cache_folder", lambda: folder)
    monkeypatch.setattr("codelength.data.fetch.cache_folder", lambda: folder)
    monkeypatch.delenv("CODELENGTH_DATA", raising=False)
    return folder


@pytest.fixture
def noise() -> Callable[..., np.ndarray]:
    """Random images: noise(shape, top, seed)."""

    def make(shape: tuple[int, ...], top: int = 256, seed: int = 0) -> np.ndarray:
        dtype = np.uint8 if top <= 256 else np.uint16
        return np.random.default_rng(seed).integers(0, top, shape).astype(dtype)

    return make


class Site:
    """What a server on this machine answers: path -> list of (status, content), one an attempt, the last for ever."""

    def __init__(self) -> None:
        self.answers: dict[str, list[tuple[int, bytes]]] = {}
        self.asked: list[str] = []
        self.url = ""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    site = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.path)
            answers = site.answers.get(self.path, [(404, b"no")])
            status, content = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        site.url = f"http://127.0.0.1:{server.server_address[1]}/"
        yield site
        server.shutdown()
        thread.join()
