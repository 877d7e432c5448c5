"""The guide's catalogue names what exists, and the tutorials' scripts run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
TUTORIALS = ROOT / "docs/tutorials"


def test_pitfalls_name_every_broken_model():
    text = (ROOT / "docs/guide/pitfalls.md").read_text()
    models = {path.stem for path in (ROOT / "tests/audit/broken").glob("[a-e][0-9]_*.py")}
    named = set(re.findall(r"`([a-e]\d_\w+)`", text))
    assert named == models


def test_every_script_is_on_a_page():
    text = "".join(page.read_text() for page in TUTORIALS.glob("*.md"))
    scripts = [path for path in TUTORIALS.iterdir() if path.suffix in (".py", ".sh")]
    assert len(scripts) == 4
    assert all(f"{{{{include:docs/tutorials/{path.name}}}}}" in text for path in scripts)


def test_the_newcomers_path_is_short():
    lines = [line for line in (TUTORIALS / "own_images.sh").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) <= 5


@pytest.fixture
def shell(tmp_path):
    """A folder with `codelength` on its path, for scripts that call it."""
    tool = tmp_path / "bin" / "codelength"
    tool.parent.mkdir()
    tool.write_text(f"#!{sys.executable}\nimport sys\nfrom codelength.cli.main import main\nsys.exit(main())\n")
    tool.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    environment = {**os.environ, "PATH": f"{tool.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src")}

    def run(command: list[str]) -> str:
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run.folder = work
    return run


@pytest.mark.slow
def test_audit_your_model(shell):
    out = shell([sys.executable, str(TUTORIALS / "audit_your_model.py")])
    assert "faulty: exit code 1" in out
    assert "honest: exit code 0" in out


@pytest.mark.slow
def test_zuko_flow(shell):
    pytest.importorskip("zuko")
    out = shell([sys.executable, str(TUTORIALS / "zuko_flow.py")])
    assert re.search(r"bound, K = 16: \d\.\d+ ± 0\.\d+ bits/dim", out)
    assert re.search(r"exact, K = 1: \d\.\d+", out)


@pytest.mark.slow
def test_compress_a_folder(shell):
    photos = shell.folder / "photos"
    photos.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(photos / "a.png")
    (shell.folder / "notes.txt").write_text("words and words\n" * 40)
    shell(["sh", "-e", str(TUTORIALS / "compress_folder.sh")])
    restored = {path.name: path for path in (shell.folder / "restored").rglob("*") if path.is_file()}
    np.testing.assert_array_equal(np.asarray(Image.open(restored["a.png"])), pixels)
    assert restored["notes.txt"].read_text() == "words and words\n" * 40


@pytest.mark.slow
def test_newcomers_path(tmp_path):
    command = [sys.executable, str(ROOT / "scripts/newcomer.py"), "--steps", "3", "-o", str(tmp_path / "r.json")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert '"files_edited": 0' in done.stdout
