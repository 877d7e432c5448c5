"""The documentation site: built without warnings, accessible, quick, and asking nobody for anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.browser.conftest import DESK, PHONE, ROOT, seconds_to_load

pytestmark = pytest.mark.slow

PAGES = ["index", "guide/pixels", "guide/pitfalls", "tutorials/own-images", "models/pixelcnn_pp", "api/models"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly."""
    pytest.importorskip("mkdocs", reason="pip install 'codelength[docs]'")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return out


@pytest.fixture(scope="module")
def home(site, serve) -> str:
    """Its address on the loopback interface."""
    return serve(site)


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("scheme", "size"), [("light", DESK), ("dark", PHONE)], ids=["light-desk", "dark-phone"])
def test_page(home, visit, violations, name, scheme, size):
    seen = visit(f"{home}{name}.html", scheme, size)
    assert seconds_to_load(seen) < 1
    seen.screenshot(f"site-{name.replace('/', '-')}-{scheme}")
    assert seen.foreign(home) == []
    assert seen.errors == []
    assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1")
    assert violations(seen) == []


def test_search_finds(home, visit):
    seen = visit(f"{home}index.html")
    seen.page.locator("[data-md-component=search-query]").first.fill("dequantization")
    seen.page.locator(".md-search-result__item").first.wait_for(timeout=10_000)
    assert seen.foreign(home) == []


def test_numbers_of_figures_are_filled_in(site):
    text = (site / "guide/pixels.html").read_text()
    assert "{{" not in text
    assert "figure:" not in text


def test_a_system_has_equations_recipe_record_and_samples(site):
    text = (site / "models/pixelcnn_pp.html").read_text()
    assert "mnist5k-pixelcnn_pp" in text
    assert "records/mnist5k-pixelcnn_pp" in text
    assert "samples-mnist5k-pixelcnn_pp.png" in text
    assert "PixelCNNPP" in text


def test_every_page_is_reachable(site):
    index = (site / "index.html").read_text()
    pages = [page.relative_to(ROOT / "docs") for page in (ROOT / "docs").rglob("*.md")]
    missing = [page for page in pages if f'href="{page.with_suffix(".html")}"' not in index and page.name != "index.md"]
    assert missing == []


@pytest.mark.parametrize(
    "wrong", ["{{figure:spikes.svg:nonsense}}", "{{figure:nothing.svg:x}}", "{{include:docs/nothing.py}}"]
)
def test_an_unknown_number_or_file_fails(wrong):
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from site_hooks import fill_in
    finally:
        sys.path.pop(0)
    with pytest.raises((KeyError, FileNotFoundError)):
        fill_in(wrong)
