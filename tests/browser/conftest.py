"""Pages in a real browser: headless Chromium, every request watched, axe for accessibility.

Chromium is the system's (`apt-get install chromium`, or CODELENGTH_CHROMIUM=PATH), axe comes from npm (`make test-browser` fetches
it). Without them these tests are skipped, unless CODELENGTH_REQUIRE_BROWSER=1 makes that a failure, as the make targets do.
With CODELENGTH_SCREENSHOTS=FOLDER each page is kept as a picture to look at.
"""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
AXE = """async () => (await axe.run(document, {resultTypes: ["violations"]})).violations
  .filter((v) => v.impact === "serious" || v.impact === "critical")
  .map((v) => v.id + ": " + v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160)).join(" | "))"""
LOADED = "() => { const t = performance.getEntriesByType('navigation')[0]; return t.loadEventEnd - t.startTime }"
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


def missing(what: str) -> None:
    """Skip, or fail where a browser is required."""
    if os.environ.get("CODELENGTH_REQUIRE_BROWSER") == "1":
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core."""
    path = Path(os.environ.get("CODELENGTH_AXE", ROOT / ".node/node_modules/axe-core/axe.min.js"))
    if not path.is_file():
        missing(f"axe-core is not at {path}; `make test-browser` fetches it with npm")
    return path.read_text()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running headless Chromium."""
    names = [os.environ.get("CODELENGTH_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"]
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        missing("no Chromium; apt-get install chromium, or set CODELENGTH_CHROMIUM")
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install 'codelength[browser]'")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page that was opened, and all that it asked for.

    Args:
        page: Playwright's page.
        requests: Addresses, the page's own first.
        errors: What its scripts complained of.
    """

    page: Any
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def foreign(self, home: str) -> list[str]:
        """Requests that went elsewhere."""
        return [url for url in self.requests if not url.startswith((home, "data:", "blob:"))]

    def screenshot(self, name: str) -> None:
        """Keep a picture, if wanted."""
        folder = os.environ.get("CODELENGTH_SCREENSHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Visit]]:
    """Open an address: visit(url, scheme="light", size=DESK)."""
    contexts = []

    def open_(url: str, scheme: str = "light", size: dict[str, int] = DESK) -> Visit:
        context = chromium.new_context(viewport=size, color_scheme=scheme, bypass_csp=True)
        contexts.append(context)
        seen = Visit(context.new_page())
        seen.page.on("request", lambda request: seen.requests.append(request.url))
        seen.page.on("pageerror", lambda error: seen.errors.append(str(error)))
        seen.page.on("console", lambda line: seen.errors.append(line.text) if line.type == "error" else None)
        seen.page.goto(url, wait_until="load")
        return seen

    yield open_
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def violations(axe: str) -> Callable[[Visit], list[str]]:
    """Serious and critical findings of axe on a visited page."""

    def run(seen: Visit) -> list[str]:
        seen.page.evaluate(axe)
        found: list[str] = seen.page.evaluate(AXE)
        print(*found, sep="\n")
        return found

    return run


def seconds_to_load(seen: Visit) -> float:
    """The best of three loads: the others measure what else the machine does."""
    times = [seen.page.evaluate(LOADED)]
    for _ in range(2):
        seen.page.reload(wait_until="load")
        times.append(seen.page.evaluate(LOADED))
    return min(times) / 1000


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[[Path], str]]:
    """Serve a folder on the loopback interface; returns its address."""
    servers = []

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    def start(folder: Path) -> str:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
