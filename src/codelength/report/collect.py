"""What a report is made of: runs with their records, grouped by the data that they were measured on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codelength.data import load_data
from codelength.data.dataset import DataSet, Split
from codelength.errors import CodelengthError, EvaluationError
from codelength.evaluation import Comparison, Evaluation, EvaluationRecord, compare
from codelength.evaluation.compare import SAME
from codelength.evaluation.conditioning import charge_where_needed
from codelength.models.base import LikelihoodModel
from codelength.run import Run

MARKS = {"": "", "<=": "≤", "~": "≈"}


@dataclass(frozen=True, eq=False)
class Subject:
    """A run in the report.

    Args:
        run: The run.
        name: Its name, unique in the report.
        colour: Index of its colour.
    """

    run: Run
    name: str
    colour: int


@dataclass(frozen=True)
class Difference:
    """Bits/dim above the best run, on the same data pair by pair; `low` and `high` are NaN where nothing bounds it."""

    mean: float
    low: float
    high: float
    win_rate: float
    verdict: str


@dataclass(frozen=True, eq=False)
class Measured:
    """A run's record on the group's data.

    Args:
        subject: The run.
        evaluation: Its record.
        anchor: Anchor of the full record in the page.
        mark: "" for an exact number, "≤" for a bound, "≈" for an estimate.
        difference: Bits/dim above the best run, with its paired 95 % interval; None for the best itself.
    """

    subject: Subject
    evaluation: Evaluation
    anchor: str
    mark: str = ""
    difference: Difference | None = None

    @property
    def record(self) -> EvaluationRecord:
        """The record."""
        return self.evaluation.record


@dataclass(frozen=True)
class Group:
    """Records of the same numbers of the same kind: what may be ranked together.

    Args:
        data: Name of the data set.
        split: Its split.
        measured: Records, shortest code first, one a run.
        dataset: The data; None where they could not be loaded.
        trouble: Why they could not.
    """

    data: str
    split: str
    measured: Sequence[Measured]
    dataset: DataSet | None
    trouble: str = ""
    models: dict[str, LikelihoodModel] = field(default_factory=dict, compare=False)

    @property
    def anchor(self) -> str:
        """Anchor of its section."""
        return anchor_of(self.key)

    @property
    def key(self) -> str:
        """`<data>-<split>`."""
        return f"{self.data}-{self.split}"

    @property
    def num_dims(self) -> int:
        """Numbers a datum."""
        return self.measured[0].evaluation.record.num_dims

    def model(self, subject: Subject) -> LikelihoodModel:
        """The subject's model with its weights, loaded once."""
        if subject.name not in self.models:
            self.models[subject.name] = subject.run.load_model()
        return self.models[subject.name]


def anchor_of(name: str) -> str:
    """A name as an anchor: small letters, digits and hyphens.

    >>> anchor_of("mnist5k-dynamic@seed=3")
    'mnist5k-dynamic-seed-3'
    """
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in name).lower()


def unique_names(runs: Sequence[Run]) -> list[str]:
    """A name for each run: its folder's, with parent folders where two folders have one name.

    Runs of the same path count as two; the second is numbered.
    """
    names = [run.name for run in runs]
    depth = 2
    while len(set(names)) < len(names) and depth < 6:
        doubled = {name for name, count in Counter(names).items() if count > 1}
        names = [
            "/".join(run.path.resolve().parts[-depth:]) if name in doubled else name
            for name, run in zip(names, runs, strict=True)
        ]
        depth += 1
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return unique


def colours(runs: Sequence[Run]) -> list[int]:
    """Index of a colour for each run: one system has one colour on all data sets, a second run of it there another."""
    keys = []
    seen: Counter[tuple[str, str]] = Counter()
    for run in runs:
        place = (run.recipe.data.name, run.recipe.model.system)
        keys.append((seen[place], run.recipe.model.system))
        seen[place] += 1
    order = sorted(set(keys))
    return [order.index(key) for key in keys]


def load_run_data(run: Run) -> DataSet:
    """The data a run was trained on."""
    return load_data(run.recipe.data.name, **run.recipe.data.options)


def read_evaluations(run: Run) -> list[Evaluation]:
    """The records of a run's present weights; those of weights that were trained over since are left out.

    Raises:
        EvaluationError: One is damaged.
    """
    folder = run.path / "evaluation"
    found = [Evaluation.load(path.parent) for path in sorted(folder.glob("*/record.json"))]
    return [evaluation for evaluation in found if evaluation.record.model_sha256 in (None, run.model_sha256)]


def read_coding(run: Run, data: str, split: str) -> dict[str, Any] | None:
    """What coding a split with the run gave, if it was measured.

    Raises:
        EvaluationError: The file is damaged.
    """
    path = coding_path(run, data, split)
    if not path.is_file():
        return None
    try:
        fields: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise EvaluationError(f"{path} is damaged ({error}); code the split again") from error
    return fields


def coding_path(run: Run, data: str, split: str) -> Path:
    """Where a run keeps what coding a split gave."""
    safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in data)
    return run.path / "coding" / f"{safe}-{split}.json"


def tightest(evaluations: Iterable[Evaluation]) -> Evaluation:
    """The record with the shortest code: of several bounds on the same number the tightest one."""
    return min(evaluations, key=lambda e: (e.record.nats_per_example, -e.record.num_samples))


def collect(runs: Sequence[Run]) -> list[Group]:
    """Group the records of runs by what was measured, in order of data and split.

    Of several records of one run on the same data, such as bounds with more or fewer samples, the tightest counts.

    Raises:
        EvaluationError: No run has a record.
    """
    subjects = [Subject(*fields) for fields in zip(runs, unique_names(runs), colours(runs), strict=True)]
    found: dict[tuple[Any, ...], dict[str, list[Evaluation]]] = {}
    for subject in subjects:
        for evaluation in read_evaluations(subject.run):
            found.setdefault(_comparable(evaluation), {}).setdefault(subject.name, []).append(evaluation)
    if not found:
        names = ", ".join(subject.name for subject in subjects) or "no runs"
        raise EvaluationError(f"nothing to report: no records in {names}; run `codelength evaluate RUN --split test`")
    by_name = {subject.name: subject for subject in subjects}
    groups = [
        _group({by_name[name]: tightest(records) for name, records in entries.items()}) for entries in found.values()
    ]
    return sorted(groups, key=lambda group: (group.data, group.split != "test", group.split))


def _comparable(evaluation: Evaluation) -> tuple[Any, ...]:
    """What two records must share to be ranked together."""
    record = evaluation.record
    return (record.data, record.split, *(getattr(record, field) for field in SAME))


def _group(found: dict[Subject, Evaluation]) -> Group:
    # Conditional models stand beside unconditional ones with their conditions paid for.
    entries = dict(zip(found, charge_where_needed(list(found.values())), strict=True))
    comparison = compare(list(entries.values()))
    subjects = {id(evaluation.record): (subject, evaluation) for subject, evaluation in entries.items()}
    best = comparison.entries[0]
    stem = anchor_of(f"{best.record.data}-{best.record.split}")
    measured = []
    for entry in comparison.entries:
        subject, evaluation = subjects[id(entry.record)]
        difference = _difference(comparison, entry.name, best.name)
        anchor = f"record-{stem}-{entry.rank}"
        measured.append(Measured(subject, evaluation, anchor, MARKS[entry.mark], difference))
    dataset, trouble = _find_data([subject.run for subject in entries], best.record)
    return Group(best.record.data, best.record.split, measured, dataset, trouble)


def _difference(comparison: Comparison, name: str, best: str) -> Difference | None:
    for pair in comparison.pairs:
        if {pair.worse, pair.better} == {name, best} and name != best:
            sign = 1.0 if pair.worse == name else -1.0
            low, high = sorted(sign * end for end in pair.normal_interval)  # NaN for a single datum or cluster
            win_rate = pair.win_rate if pair.better == best else 1 - pair.win_rate
            return Difference(sign * pair.saving_bits_per_dim, low, high, win_rate, pair.verdict)
    return None


def _find_data(runs: Sequence[Run], record: EvaluationRecord) -> tuple[DataSet | None, str]:
    """The data that were measured, or None and the reason."""
    trouble = ""
    for run in runs:
        try:
            dataset = load_run_data(run)
            if dataset.name == record.data and record.data_sha256 in _fingerprints(dataset, record.split):
                return dataset, ""
            trouble = trouble or f"{dataset.name} now holds other data than were measured"
        except CodelengthError as error:
            trouble = str(error)
    return None, trouble


def _fingerprints(dataset: DataSet, split: str) -> list[str]:
    """Of the data of a split; of text its tokens too, which are scored one by one."""
    text = dataset.texts.get(split)
    of_tokens = [] if text is None else [Split(x=text.tokens[:, None]).fingerprint()]
    return [dataset.split(split).fingerprint(), *of_tokens]
