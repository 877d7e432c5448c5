"""Mode-covering: one Gaussian fitted to three modes under each divergence, from `codelength teach modes`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

STEPS, SEED = 400, 0


def modes(path: Path) -> dict[str, Any]:
    """Draw the experiment of `codelength teach modes`; the numbers are its table."""
    from codelength.divergences import experiment

    fits = experiment.run_experiment(steps=STEPS, seed=SEED)
    experiment.draw(fits, path)
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in experiment.to_json(fits)]
    return {"steps": STEPS, "seed": SEED, "fits": rows}
