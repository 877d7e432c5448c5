"""What the demo does: one part for each data set and system."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codelength.errors import unknown_name
from codelength.recipe import Recipe, load_recipe

DATA = ("mnist5k", "photos32")

# System -> what it is, and how long it takes beside the others: long parts start first, so that both cores end together.
SYSTEMS: dict[str, tuple[str, float]] = {
    "mean_field": ("every pixel on its own; what others save below it is what pixels say about each other", 1),
    "made": ("one masked network, pixel after pixel given all before", 3),
    "pixelcnn_pp": ("causal convolutions, pixel after pixel given a neighbourhood, mixtures of logistics", 10),
    "realnvp": ("an invertible map to Gaussian noise; a density, so that integers get a bound by added noise", 6),
    "vae": ("latent variables; the number is a bound, tighter with more samples K", 4),
}

# A tiny variant that only shows that all of it runs. Its numbers mean nothing.
FAST_DATA = ("mnist5k",)
FAST: dict[str, Any] = {
    "training.steps": 20,
    "training.warmup_steps": 0,
    "training.validate_every": 20,
    "training.validation_examples": 64,
    "training.checkpoint_every": 20,
    "training.sample_every": None,
    "evaluation.samples": 2,
}


@dataclass(frozen=True)
class Part:
    """One model on one data set: trained, measured, and where it is exact, coded.

    Args:
        data: Name of the data set.
        system: Name of the model's system.
        recipe: Name or path of the recipe.
        overrides: Keys of the recipe that are changed.
        folder: Folder of the run.
    """

    data: str
    system: str
    recipe: str
    overrides: dict[str, Any]
    folder: Path

    @property
    def name(self) -> str:
        """ "<data> <system>", for people."""
        return f"{self.data} {self.system}"

    @property
    def cost(self) -> float:
        """How long it takes, beside other parts."""
        return SYSTEMS[self.system][1] * (3 if self.data == "photos32" else 1)

    def load_recipe(self) -> Recipe:
        """The recipe with its changes.

        Raises:
            UsageError: Unknown recipe or key.
        """
        return load_recipe(self.recipe, self.overrides)

    def to_json(self) -> str:
        """The part as one line, for the process that does it."""
        fields = {"data": self.data, "system": self.system, "recipe": self.recipe, "overrides": self.overrides}
        return json.dumps({**fields, "folder": str(self.folder)})

    @staticmethod
    def from_json(line: str) -> Part:
        """The part that `to_json` wrote."""
        fields = json.loads(line)
        return Part(**{**fields, "folder": Path(fields["folder"])})


def make_parts(
    out: Path,
    data: Sequence[str] = DATA,
    systems: Sequence[str] = tuple(SYSTEMS),
    overrides: dict[str, Any] | None = None,
) -> list[Part]:
    """All parts, longest first.

    Raises:
        UsageError: Unknown data set, system, recipe or key.
    """
    for what, asked, known in (("data set of the demo", data, DATA), ("system of the demo", systems, SYSTEMS)):
        for name in asked:
            if name not in known:
                raise unknown_name(what, name, known)
    parts = [
        Part(name, system, f"demo-{name}-{system}", overrides or {}, out / f"{name}-{system}")
        for name in data
        for system in systems
    ]
    for part in parts:
        part.load_recipe()
    return sorted(parts, key=lambda part: -part.cost)
