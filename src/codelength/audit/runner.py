"""All probes on one subject."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from codelength.adapters import adapt, is_file_spec, load_subject
from codelength.adapters.huggingface import is_hugging_face_folder, load_hugging_face
from codelength.audit import (
    p1_normalization,
    p2_causality,
    p3_batch,
    p4_determinism,
    p5_units,
    p6_loop,
    p7_rate,
    p8_baselines,
    p9_data,
    p10_errors,
)
from codelength.audit.context import Context
from codelength.audit.inputs import Inputs
from codelength.audit.subject import Probed, ProbeError
from codelength.audit.verdict import PROBE_NAMES, Verdict
from codelength.data.dataset import DataSet
from codelength.data.text import disjoint
from codelength.errors import CodelengthError, SpaceMismatchError
from codelength.models.base import LikelihoodModel
from codelength.run import Run, load_run
from codelength.space import Space

PROBES: dict[str, Callable[[Context], Verdict]] = {
    "P1": p1_normalization.probe,
    "P2": p2_causality.probe,
    "P3": p3_batch.probe,
    "P4": p4_determinism.probe,
    "P5": p5_units.probe,
    "P6": p6_loop.probe,
    "P7": p7_rate.probe,
    "P8": p8_baselines.probe,
    "P9": p9_data.probe,
    "P10": p10_errors.probe,
}


class AuditError(CodelengthError):
    """The audit could not run: the subject cannot be scored at all."""

    exit_code = 3


def open_subject(subject: Any, space: Space | None = None) -> tuple[LikelihoodModel, str | None, Run | None]:
    """A subject as a model, what it can be loaded again from, and its run.

    Args:
        subject: As for `audit`.
        space: Space of the data, for objects that declare none.

    Raises:
        CodelengthError: It cannot be loaded.
    """
    if isinstance(subject, str) and is_file_spec(subject):
        return load_subject(subject, space), subject, None
    if isinstance(subject, (str, Path)) and is_hugging_face_folder(subject):
        return load_hugging_face(subject, context=None if space is None else space.num_dims), None, None
    if isinstance(subject, (str, Path)):
        subject = load_run(subject)
    if isinstance(subject, Run):
        return subject.load_model(), str(subject.path), subject
    return adapt(subject, space), None, None


def audit(
    subject: Any,
    data: DataSet | None = None,
    *,
    split: str = "validation",
    budget: float = 45.0,
    seed: int = 0,
    fresh_process: bool = True,
    progress: Callable[[str], None] | None = None,
) -> list[Verdict]:
    """Probe a model.

    Args:
        subject: A LikelihoodModel, a Run or its folder, FILE.py:NAME, or any object that `adapters.adapt` takes.
        data: Data it is meant for; without, the probes that need data are not applicable.
        split: Split that is looked at. The test split stays sealed unless it is named.
        budget: Seconds, roughly; the probes look at fewer data when it runs short.
        seed: Seed of all inputs and noise.
        fresh_process: Whether runs and files are also loaded and scored in a new process.
        progress: Called with each probe's name before it runs.

    Returns:
        One verdict a probe, P1 to P10. None passes on checks that did not run.

    Raises:
        AuditError: The subject cannot be scored.
        UsageError: The subject or the split cannot be found.
    """
    data = None if data is None else disjoint(data)
    model, spec, run = open_subject(subject, None if data is None else data.space)
    context = _context(model, spec, run, data, split, budget, seed)
    context.fresh_process = fresh_process
    verdicts = []
    for number, probe in PROBES.items():
        if progress is not None:
            progress(f"{number} {PROBE_NAMES[number]}")
        try:
            verdicts.append(probe(context))
        except ProbeError as error:
            cause = "the model raises, or returns no number, for data of its space"
            verdicts.append(Verdict(number, PROBE_NAMES[number], "fail", {}, str(error), cause))
    return verdicts


def _context(
    model: LikelihoodModel,
    spec: str | None,
    run: Run | None,
    data: DataSet | None,
    split: str,
    budget: float,
    seed: int,
) -> Context:
    """Everything the probes share, and the model's first use."""
    space = model.space
    if any(size is None for size in space.shape):
        if data is None:
            raise AuditError(
                f"the model's shape {space.shape} leaves sizes open; give data of the size to audit (--data)"
            )
        space = replace(space, shape=data.space.shape)
    chosen = None if data is None else data.split(split)
    x = None
    try:
        if chosen is not None:
            x = space.validate(chosen.batch(slice(0, 4096)))
        _ = space.num_dims
    except (SpaceMismatchError, ValueError) as error:
        raise AuditError(f"the data do not fit the model: {error}") from error
    subject = Probed.of(model, space, spec)
    context = Context(subject, Inputs(space, seed, x), budget, seed, data, split, run)
    try:
        context.notes += subject.prepare(context.inputs.data(4))
    except ProbeError as error:
        raise AuditError(str(error)) from error
    return context
