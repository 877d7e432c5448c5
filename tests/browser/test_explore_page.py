"""`codelength explore`, used by clicking: a test item, uploads good and bad, samples, completion; nothing leaves the machine."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from tests.browser.conftest import seconds_to_load
from tests.report.conftest import write_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the page on two runs, served by the command."""
    pytest.importorskip("nicegui", reason="pip install 'codelength[explore]'")
    folder = tmp_path_factory.mktemp("runs")
    runs = [
        write_run(folder / "made", "made", {"hidden": [32], "components": 2}),
        write_run(folder / "mean_field", "mean_field", {"components": 2}),
    ]
    command = [sys.executable, "-m", "codelength.cli.main", "explore", *[str(run.path) for run in runs], "--no-browser"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        yield address
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture
def seen(home, visit):
    """The page, opened once the server answers."""
    import time
    import urllib.error
    import urllib.request

    for _ in range(120):
        try:
            urllib.request.urlopen(home, timeout=5).close()
            break
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
    found = visit(home)
    found.page.get_by_role("button", name="Measure the test item").wait_for()
    return found


def png(size: int, mode: str = "L") -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 16, (size, size) if mode == "L" else (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def upload(page, name: str, content: bytes) -> None:
    page.locator("input[type=file]").set_input_files({"name": name, "mimeType": "image/png", "buffer": content})


def test_measures_samples_and_completes(home, seen, violations):
    page = seen.page
    page.get_by_role("button", name="Measure the test item").click()
    page.get_by_text("has the shortest code").wait_for(timeout=60_000)
    rows = page.locator("tbody tr")
    assert rows.count() == 2
    values = [float(text) for text in page.locator("tbody td:nth-child(2)").all_inner_texts()]
    assert values == sorted(values)
    assert re.search(r"longer than [\d.]+ % of 250 test items of digits", page.inner_text("tbody"))
    page.get_by_role("button", name="Draw 16 samples").click()
    page.get_by_text("16 samples of made").wait_for(timeout=60_000)
    page.get_by_role("button", name="Complete the lower half").click()
    page.get_by_text("seven lower halves").wait_for(timeout=60_000)
    assert page.evaluate("[...document.images].every(i => i.alt.length > 5)")
    seen.screenshot("explore")
    assert violations(seen) == []
    assert seen.foreign(home) == []
    assert seen.errors == []


def test_uploads(home, seen):
    page = seen.page
    upload(page, "digit.png", png(8))
    page.get_by_text("has the shortest code").wait_for(timeout=60_000)
    alert = page.locator(".trouble")
    upload(page, "large.png", png(40, "RGB"))
    alert.wait_for(timeout=60_000)
    assert "large.png is 40 x 40, RGB, 256 levels; wanted 8 x 8 (width x height), grey, 17 levels" in alert.inner_text()
    page.get_by_role("checkbox").click()
    upload(page, "large.png", png(40, "RGB"))
    alert.wait_for(state="detached", timeout=60_000)
    upload(page, "no-image.png", b"this is no image")
    page.get_by_text("no-image.png cannot be read as an image").wait_for(timeout=60_000)
    assert seen.foreign(home) == []


def test_loads_quickly(seen):
    assert seconds_to_load(seen) < 1
