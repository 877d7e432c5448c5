"""Run every `codelength` command of the README, the guide and the tutorials in a scratch folder: `make nightly`.

    python scripts/run_commands.py [PAGE...]

Commands run as they are printed, but for trainings, which are cut to a few steps. The scratch folder holds what they speak of: runs/made,
runs/vae, runs/a, runs/b, folders of images mine/, photos/, holiday/, and notes.txt.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
from check_documents import shell_lines  # noqa: E402
from newcomer import make_images  # noqa: E402

STEPS = 4
RUNS = {
    "runs/made": "demo-mnist5k-made",
    "runs/vae": "demo-mnist5k-vae",
    "runs/a": "demo-mnist5k-made",
    "runs/b": "demo-mnist5k-made",
}


def pages() -> list[Path]:
    """Pages whose commands are run."""
    return [
        ROOT / "README.md",
        *sorted((ROOT / "docs/guide").glob("*.md")),
        *sorted((ROOT / "docs/tutorials").glob("*.md")),
    ]


def commands(page: Path) -> list[list[str]]:
    """Words of its `codelength` commands; pages to read in a browser, and placeholders in capitals, are left out."""
    found = [shlex.split(line, comments=True) for line in shell_lines(page.read_text())]
    return [
        words
        for words in found
        if words[:1] == ["codelength"] and words[1] != "explore" and words[1:3] != ["train", "RECIPE"]
    ]


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """One command, trainings cut short."""
    if words[1] == "train" and "--list" not in words and "--resume" not in words:
        words = [*words, "--set", f"training.steps={STEPS}"]
        words = [word for i, word in enumerate(words) if "training.steps=" not in word or i == len(words) - 1]
        words = [
            word for i, word in enumerate(words) if word != "--set" or (i + 1 < len(words) and "=" in words[i + 1])
        ]
        shutil.rmtree(folder / words[words.index("--out") + 1], ignore_errors=True)
    program = [sys.executable, "-m", "codelength.cli.main", *words[1:]]
    return subprocess.run(program, cwd=folder, capture_output=True, text=True, env={**os.environ, "COLUMNS": "120"})


def prepare(folder: Path, page: str) -> None:
    """The files and runs that a page speaks of."""
    for name in ("mine", "photos", "holiday"):
        make_images(folder / name, side=64 if name == "photos" else 32, count=60 if name == "photos" else 30)
    (folder / "notes.txt").write_text("notes\n" * 100)
    for out, recipe in RUNS.items():
        if out not in page:
            continue
        for words in (
            ["codelength", "train", recipe, "--out", out],
            ["codelength", "evaluate", out, "--split", "test"],
        ):
            done = run(words, folder)
            if done.returncode:
                raise SystemExit(f"{shlex.join(words)}: {done.stderr.strip().splitlines()[-1]}")


def main(arguments: list[str]) -> int:
    """Run them; 0 if all succeed."""
    failures, count = 0, 0
    for page in [Path(argument).resolve() for argument in arguments] or pages():
        wanted = commands(page)
        if not wanted:
            continue
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            prepare(folder, page.read_text())
            for words in wanted:
                start, done = time.perf_counter(), run(words, folder)
                count += 1
                print(
                    f"{'ok' if not done.returncode else 'FAILED':<7}{time.perf_counter() - start:6.1f} s  {shlex.join(words)}",
                    flush=True,
                )
                if done.returncode:
                    failures += 1
                    print(f"       {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
    print(f"{count} commands, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
