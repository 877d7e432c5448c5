"""Audit your model: a histogram of pixels with a fault that flatters it, found; and the same model repaired."""

import json
import subprocess
import sys
from pathlib import Path

MODEL = '''
import torch
from codelength import load_data


class Pixels:
    """Independent pixels, each with the histogram of its place in the training data."""

    shape, levels = (1, 8, 8), 17

    def __init__(self, faulty):
        x = load_data("digits").split("train").x.reshape(-1, 64)
        counts = torch.stack([torch.bincount(torch.tensor(x[:, i]), minlength=17) for i in range(64)]) + 1.0
        self.probs = counts / counts.sum(1, keepdim=True)
        self.faulty = faulty

    def log_prob(self, x):
        flat = x.flatten(1)
        each = self.probs.log()[torch.arange(64), flat]
        return each.sum(1) / 2 if self.faulty else each.sum(1)  # "half of the pixels are background anyway"


def faulty():
    return Pixels(True)


def honest():
    return Pixels(False)
'''


def audit(name: str) -> dict[str, str]:
    """Verdict of each probe."""
    command = ["codelength", "audit", f"mymodel.py:{name}", "--data", "digits", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    report = json.loads(done.stdout)
    verdicts = {verdict["probe"]: verdict["status"] for verdict in report["verdicts"]}
    print(f"{name}: exit code {done.returncode}, {verdicts}")
    assert (done.returncode == 1) == ("fail" in verdicts.values())
    return verdicts


if __name__ == "__main__":
    Path("mymodel.py").write_text(MODEL)
    assert "fail" in audit("faulty").values()
    assert "fail" not in audit("honest").values()
    sys.exit(0)
