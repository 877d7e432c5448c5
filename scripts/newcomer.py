"""Walk the newcomer's path of docs/tutorials/own_images.sh in a fresh folder, and time each command.

    python scripts/newcomer.py [--images FOLDER] [--steps N] [--install] [-o benchmarks/results/newcomer.json]

Without --images the folder is filled with crops of the photographs inside scikit-image. With --install the first command is run too, in
an empty environment that is made beforehand (`python -m venv`), and the other commands with what it installed; without, they run with this
Python. --pip-args are options of pip, such as an index.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "docs/tutorials/own_images.sh"
MOST_COMMANDS = 5


def commands() -> list[str]:
    """The tutorial's commands."""
    return [line for line in SCRIPT.read_text().splitlines() if line and not line.startswith("#")]


def make_images(folder: Path, side: int = 32, count: int = 240) -> None:
    """Random crops of photographs inside scikit-image, as PNG files."""
    from skimage import data

    folder.mkdir()
    generator = np.random.default_rng(0)
    photographs = [data.astronaut(), data.chelsea(), data.coffee() if hasattr(data, "coffee") else data.rocket()]
    for i in range(count):
        photograph = photographs[i % len(photographs)]
        top, left = (generator.integers(0, size - side) for size in photograph.shape[:2])
        Image.fromarray(photograph[top : top + side, left : left + side]).save(folder / f"{i:03}.png")


def walk(folder: Path, steps: int | None, install: bool, pip_args: str) -> list[dict[str, object]]:
    """Run the commands one after the other; seconds of each. Stops at the first that fails."""
    timed: list[dict[str, object]] = []
    python, environment = sys.executable, dict(os.environ)
    if install:
        subprocess.run([sys.executable, "-m", "venv", str(folder / ".venv")], check=True)
        python = str(folder / ".venv/bin/python")
        environment = {key: value for key, value in environment.items() if key != "PYTHONPATH"}
    for line in commands():
        if line.startswith("pip ") and not install:
            continue
        words = shlex.split(line)
        if steps is not None and words[1] == "train":
            words += ["--set", f"training.steps={steps}"]
        if words[0] == "pip":
            words += shlex.split(pip_args)
        module = "codelength.cli.main" if words[0] == "codelength" else words[0]  # pip of the same Python
        program = [python, "-m", module, *words[1:]]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(program, cwd=folder, text=True, capture_output=True, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise SystemExit(f"`{line}` failed: {done.stderr.strip().splitlines()[-1]}")
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        timed.append({"command": line, "seconds": round(time.perf_counter() - start, 1), "cpu_seconds": round(cpu, 1)})
        print(f"{timed[-1]['seconds']:>7} s  {line}", file=sys.stderr)
    return timed


def outcome(folder: Path) -> dict[str, object]:
    """What the path left behind: the record, the file, the report with classical codecs in it."""
    record = json.loads(next((folder / "runs/mine/evaluation").glob("*test*/record.json")).read_text())
    report = (folder / "report.html").read_text()
    missing = [codec for codec in ("PNG", "WebP", "JPEG XL") if codec not in report]
    if missing:
        raise SystemExit(f"the report does not compare with {', '.join(missing)}")
    return {
        "images": len(list((folder / "mine").iterdir())),
        "image_bytes": sum(path.stat().st_size for path in (folder / "mine").iterdir()),
        "compressed_bytes": (folder / "mine.clen").stat().st_size,
        "report_bytes": len(report),
        "test_bits_per_dim": record["bits_per_dim"],
        "kind": record["kind"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="a folder of your own")
    parser.add_argument("--steps", type=int, help="training steps other than the tutorial's")
    parser.add_argument("--install", action="store_true", help="run the installation too, in an environment of its own")
    parser.add_argument("--pip-args", default="", help="options of pip")
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    given = parser.parse_args()
    if len(commands()) > MOST_COMMANDS:
        raise SystemExit(f"{SCRIPT} has {len(commands())} commands; at most {MOST_COMMANDS} are wanted")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.images is None:
            make_images(folder / "mine")
        else:
            shutil.copytree(given.images, folder / "mine")
        if given.install:
            (folder / "codelength").symlink_to(ROOT)
        timed = walk(folder, given.steps, given.install, given.pip_args)
        result = {
            "command": " ".join(["python", "scripts/newcomer.py", *sys.argv[1:]]),
            "commands_of_the_path": len(commands()),
            "files_edited": 0,
            "steps_timed": timed,
            "seconds": round(sum(float(str(step["seconds"])) for step in timed), 1),
            "cpu_seconds": round(sum(float(str(step["cpu_seconds"])) for step in timed), 1),
            **outcome(folder),
            "machine": {"cpus": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()},
        }
    text = json.dumps(result, indent=1)
    print(text)
    if given.output:
        given.output.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
