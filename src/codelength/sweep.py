"""Sweeps: many recipes or settings, trained over the devices at hand, and one table of them.

Optuna proposes settings and keeps the study in a journal file, so that a sweep that is stopped goes on where it was. Each
trial is a run of its own, trained by `codelength train --resume` in a process of its own; selection uses validation data.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codelength.errors import CodelengthError, TrainingError, UsageError
from codelength.recipe import Recipe, load_recipe, parse_yaml
from codelength.run import Run, load_run

Report = Callable[[str], None]


@dataclass(frozen=True)
class Axis:
    """A key of the recipe and what it may be.

    Args:
        key: Dotted, such as training.learning_rate.
        choices: The values, in order; empty for a range.
        low, high: Ends of a range of numbers.
        log: Whether its logarithm is uniform.
    """

    key: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    def suggest(self, trial: Any) -> Any:
        """The trial's value."""
        if self.choices:
            # By position: a list is no choice that the journal could hold.
            return self.choices[trial.suggest_categorical(self.key, list(range(len(self.choices))))]
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.key, self.low, self.high, log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log)


def parse_axis(text: str) -> Axis:
    """KEY=V1,V2,... or KEY=LOW..HIGH or KEY=log:LOW..HIGH; values are YAML.

    >>> parse_axis("training.learning_rate=log:1e-4..1e-2")
    Axis(key='training.learning_rate', choices=(), low=0.0001, high=0.01, log=True)
    >>> parse_axis("model.options.hidden=[32],[32, 32]").choices
    ([32], [32, 32])

    Raises:
        UsageError: Another form.
    """
    key, equals, written = text.partition("=")
    if not equals or not key or not written:
        raise UsageError(f"--over {text!r}; wanted KEY=V1,V2 or KEY=LOW..HIGH or KEY=log:LOW..HIGH")
    log = written.startswith("log:")
    first, dots, last = written.removeprefix("log:").partition("..")
    if not dots:
        if log:
            raise UsageError(f"--over {text!r}; log: is for a range, KEY=log:LOW..HIGH")
        return Axis(key, tuple(parse_yaml(f"[{written}]")))
    low, high = parse_yaml(first), parse_yaml(last)
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high))
    if not numbers or low >= high or (log and low <= 0):
        raise UsageError(f"--over {text!r}; wanted two numbers LOW < HIGH, above 0 with log:")
    return Axis(key, low=low, high=high, log=log)


def sweep(
    recipes: Sequence[str],
    axes: Sequence[Axis],
    out: Path,
    *,
    trials: int | None = None,
    jobs: int = 1,
    devices: Sequence[str] | None = None,
    overrides: dict[str, Any] | None = None,
    seed: int = 0,
    report: Report = lambda text: None,
) -> list[Run]:
    """Train every recipe under every setting, or `trials` settings of ranges that Optuna's TPE proposes.

    Args:
        recipes: Names or files; each is a choice of its own.
        axes: What varies.
        out: Folder of the sweep: the journal, and one folder a trial.
        trials: Number of trials; all combinations by default, where there is no range.
        jobs: Trials at a time on each device.
        devices: Such as ("cuda:0", "cuda:1"); by default every GPU, or the CPU.
        overrides: Further settings, the same for all.
        seed: Seed of the proposals.
        report: Called with a line a trial.

    Returns:
        The runs, best validation code length first.

    Raises:
        UsageError: An axis is no key of the recipe, a range has no `trials`, or Optuna is not installed.
        TrainingError: Every trial failed.
    """
    from codelength.data.addresses import require

    require("optuna", "sweep")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ranges = [axis.key for axis in axes if not axis.choices]
    if ranges and trials is None:
        raise UsageError(f"{ranges[0]} is a range; say by --trials how many settings to try")
    all_axes = [Axis("recipe", tuple(recipes)), *axes]
    for chosen in itertools.islice(itertools.product(*(a.choices or (a.low,) for a in all_axes)), 1000):
        _recipe(dict(zip((a.key for a in all_axes), chosen, strict=True)), overrides)  # a wrong key fails now
    sampler = (
        optuna.samplers.TPESampler(seed=seed)
        if ranges
        else optuna.samplers.GridSampler({axis.key: list(range(len(axis.choices))) for axis in all_axes}, seed=seed)
    )
    out.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(out / "journal.jsonl")))
    study = optuna.create_study(
        study_name="sweep", storage=storage, sampler=sampler, direction="minimize", load_if_exists=True
    )
    free: queue.Queue[str] = queue.Queue()
    places = list(devices) if devices is not None else _devices()
    for place in places * jobs:
        free.put(place)

    def objective(trial: Any) -> float:
        settings = {axis.key: axis.suggest(trial) for axis in all_axes}
        folder = out / f"trial-{trial.number:04d}"
        place = free.get()
        try:
            nats = train_trial(_recipe(settings, overrides), folder, place)
        except CodelengthError as error:
            report(f"trial {trial.number}: {error}")
            raise optuna.TrialPruned from error
        finally:
            free.put(place)
        trial.set_user_attr("run", folder.name)
        report(f"trial {trial.number}: {nats:.3f} nats with {json.dumps(settings)}")
        return nats

    for unfinished in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(unfinished.number, state=optuna.trial.TrialState.FAIL)  # of a sweep that was stopped
        study.enqueue_trial(unfinished.params)
    done = len(
        study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED))
    )
    wanted = trials if trials is not None else _combinations(all_axes)
    if wanted > done:
        study.optimize(objective, n_trials=wanted - done, n_jobs=len(places) * jobs)
    finished = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if not finished:
        raise TrainingError(f"all {wanted} trials of {out} failed; train one by itself to see why")
    ordered = sorted(finished, key=lambda trial: (trial.value, trial.number))
    return [load_run(out / trial.user_attrs["run"]) for trial in ordered]


def _combinations(axes: Sequence[Axis]) -> int:
    count = 1
    for axis in axes:
        count *= len(axis.choices)
    return count


def _recipe(settings: dict[str, Any], overrides: dict[str, Any] | None) -> Recipe:
    own = {key: value for key, value in settings.items() if key != "recipe"}
    recipe = load_recipe(settings["recipe"], {**(overrides or {}), **own})
    written = ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in own.items())
    return recipe.model_copy(update={"name": f"{recipe.name} {written}".strip()})


def _devices() -> list[str]:
    import torch

    return [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cpu"]


def train_trial(recipe: Recipe, folder: Path, device: str) -> float:
    """Train a recipe in a process of its own, or go on with it; the code length of the validation data, nats.

    Raises:
        TrainingError: The process failed; its last words are in the message.
    """
    file = folder.with_suffix(".yaml")
    file.write_text(recipe.to_yaml())
    command = [sys.executable, "-m", "codelength.cli.main", "train", str(file), "--out", str(folder), "--resume"]
    done = subprocess.run(
        [*command, "--device", device, "--quiet"], env={**os.environ}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise TrainingError((done.stderr.strip().splitlines() or ["the process was killed"])[-1])
    end = next(line for line in reversed(load_run(folder).metrics()) if line["split"] == "end")
    return float(end["nats"])
