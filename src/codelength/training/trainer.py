"""The trainer: a recipe in, a run out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import torch

from codelength import distributed
from codelength.data.dataset import DataSet, Split
from codelength.errors import CheckpointError, SpaceMismatchError, UsageError
from codelength.models.base import can
from codelength.recipe import Recipe, first_difference
from codelength.run import Run, create_run, load_run
from codelength.training.batches import data_mark
from codelength.training.checkpoint import Checkpoint, load_checkpoint
from codelength.training.closed_form import fit
from codelength.training.engine import Execution
from codelength.training.loop import Loop
from codelength.training.model import fresh_model
from codelength.training.overfit import examine, narrow
from codelength.training.progress import Talk


def train(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    overfit: int | None = None,
    progress: bool = True,
    device: str | None = None,
    data: DataSet | None = None,
    execution: Execution | None = None,
) -> Run:
    """Train the recipe's model and return the run in the folder `out`.

    Weights are selected on validation data; the test split is never read. With one number of threads on one machine
    the result is a function of the recipe, however often the process is killed and resumed. Models with `fit` are
    estimated in closed form. In a job of several processes (`distributed.job`) all must call.

    Args:
        recipe: Data, model and training.
        out: Folder of the run.
        resume: Go on with the run in `out`, if there is one; a complete one is returned as it is.
        overfit: Train on the first so many training data only, and say whether the model memorizes them.
        progress: Report on stderr.
        device: Such as "cpu" or "cuda"; by default a GPU if there is one.
        data: The data; loaded by the recipe's name by default.
        execution: How gradients are computed on the devices at hand; no part of the recipe or the record.

    Raises:
        UsageError: `out` holds a run and `resume` is not given, or the recipe is not the run's.
        CheckpointError: State cannot be saved, or is of another architecture or other data.
        TrainingError: A loss or gradient is NaN or infinite; the last checkpoint is kept.
    """
    out = Path(out)
    place = distributed.default_device() if device is None else _device(device)
    data = _load(recipe) if data is None else data
    if overfit is not None:
        distributed.require_one("train --overfit")
        recipe, data = narrow(recipe, data, overfit)
    with _reproducible(place):
        has_steps = _has_steps(recipe, data, place)  # before there is a folder: a wrong option leaves none behind
        if distributed.is_first():
            checkpoint, damages = _open_folder(out, recipe, data, resume)
        distributed.barrier()
        if not distributed.is_first():
            checkpoint, damages = _open_folder(out, recipe, data, resume=True)
        talk = Talk(recipe.training.steps, progress)
        for damage in damages:
            start = "the beginning" if checkpoint is None else f"step {checkpoint.step}"
            talk.note(f"{damage}; going on from {start}")
        if checkpoint is None or not checkpoint.fields["complete"]:
            selection = (
                ("validation", data.split("validation")) if overfit is None else ("overfit", data.split("train"))
            )
            if has_steps:
                _take_steps(recipe, data, out, place, talk, selection, checkpoint, execution)
            else:
                fit(recipe, data, out, place, talk, selection)
            distributed.barrier()  # the run is whole
        if overfit is not None and not (out / "overfit.json").is_file():
            found = examine(out, recipe, data, place)
            if progress:
                talk.say(f"{recipe.name}: {found.verdict}")
    return load_run(out)


def _has_steps(recipe: Recipe, data: DataSet, device: torch.device) -> bool:
    """Whether the model is trained by steps, and not estimated in closed form or without parameters."""
    model = fresh_model(recipe, data, device)
    return not can(model, "fit") and any(p.requires_grad for p in model.parameters())


def _take_steps(
    recipe: Recipe,
    data: DataSet,
    out: Path,
    device: torch.device,
    talk: Talk,
    selection: tuple[str, Split],
    checkpoint: Checkpoint | None,
    execution: Execution | None,
) -> None:
    loop = Loop(recipe, data, out, device, talk, selection, execution)
    loop.begin(checkpoint)
    with closing(loop), closing(talk):
        talk.start(recipe.name, loop.step)
        loop.run()


def _open_folder(out: Path, recipe: Recipe, data: DataSet, resume: bool) -> tuple[Checkpoint | None, list[str]]:
    """Create the run, or check that the one there is ours.

    Returns:
        Its newest whole checkpoint, if any, and what is wrong with newer ones.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file; wanted a folder")
    there = (out / "recipe.yaml").is_file()
    if there and not resume:
        raise UsageError(f"{out} holds a run already; go on with it by --resume, or choose another folder with --out")
    if not there or not (out / "space.json").is_file():  # the second: killed while it was created
        create_run(out, recipe, data.space)
        return None, []
    run = load_run(out)
    difference = first_difference(run.recipe, recipe)
    if difference is not None:
        key, was, now = difference
        raise UsageError(
            f"cannot resume {out}: {key} is {was!r} in the run and {now!r} in the recipe; resume with the run's own recipe "
            "(leave out RECIPE and --set), or train into another folder with --out"
        )
    if run.space != data.space:
        raise SpaceMismatchError(f"cannot resume {out}: it was trained on {run.space}, these data are {data.space}")
    checkpoint, damages = load_checkpoint(out / "state")
    mark = data_mark(data.split("train"))
    if checkpoint is not None and checkpoint.fields["data"] != mark:
        raise CheckpointError(
            f"cannot resume {out}: it was trained on other training data (mark {checkpoint.fields['data']}, these have {mark}; "
            "--overfit counts too); restore the data or train into another folder with --out"
        )
    return checkpoint, damages


def _load(recipe: Recipe) -> DataSet:
    from codelength.data import load_data

    return load_data(recipe.data.name, **recipe.data.options)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"--device {name}: {str(error).splitlines()[0]}; cpu always works") from error
    return device


@contextmanager
def _reproducible(device: torch.device) -> Iterator[None]:
    """Deterministic algorithms on the CPU, where they cost nothing; the caller's random state is given back."""
    mode, fill = torch.get_deterministic_debug_mode(), torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    with torch.random.fork_rng(devices=[]):
        try:
            if device.type == "cpu":
                # The same switch as torch.use_deterministic_algorithms, which also imports the compiler: 1.4 s.
                torch.set_deterministic_debug_mode("error")
                torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
            yield
        finally:
            torch.set_deterministic_debug_mode(mode)
            torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
