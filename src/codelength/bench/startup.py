"""Start-up against the limits that the project sets itself: `codelength --help`, and `import codelength` beyond torch."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from codelength.bench.measure import Contest, Times, timed_child

if TYPE_CHECKING:
    from codelength.bench.tasks import Options

HELP_SECONDS, IMPORT_SECONDS = 0.3, 0.2

IMPORT = """
import time, torch
cpu, wall = time.process_time(), time.perf_counter()
import codelength
print(time.process_time() - cpu, time.perf_counter() - wall)
for name in codelength.__all__:
    getattr(codelength, name)
print(time.process_time() - cpu, time.perf_counter() - wall)
"""


def _limit(seconds: float) -> Times:
    return {"cpu": seconds, "wall": seconds}


def show_help(options: Options) -> Contest:
    """`codelength --help` in a process of its own."""
    command = [sys.executable, "-m", "codelength.cli.main", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    return Contest(
        what="`codelength --help`, a process from beginning to end",
        ours=lambda: timed_child(command),
        theirs=lambda: _limit(HELP_SECONDS),
        theirs_name=f"the limit of {HELP_SECONDS} s",
        parity={"characters": len(text)},
        passed="bench" in text,
        wanted=1.0,
    )


def import_package(options: Options) -> Contest:
    """`import codelength` where torch is imported already; public names are loaded when they are asked for."""

    def measured() -> tuple[Times, Times]:
        done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
        first, everything = ([float(number) for number in line.split()] for line in done.stdout.splitlines())
        return {"cpu": first[0], "wall": first[1]}, {"cpu": everything[0], "wall": everything[1]}

    with_all_names = measured()[1]
    return Contest(
        what="`import codelength` after `import torch`",
        ours=lambda: measured()[0],
        theirs=lambda: _limit(IMPORT_SECONDS),
        theirs_name=f"the limit of {IMPORT_SECONDS} s",
        parity={},
        passed=True,
        wanted=1.0,
        facts={"cpu_seconds_with_all_public_names": round(with_all_names["cpu"], 4)},
    )


PREPARE = {"help": show_help, "import": import_package}
