"""Verdicts of `codelength audit` in a report, one row a run, evidence a click away."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from codelength.audit.verdict import PROBE_NAMES
from codelength.errors import EvaluationError
from codelength.report.collect import Group, Subject, anchor_of
from codelength.report.page import Block, Cell, Column, Note, Record, Table

# What a cell says, and how bad it is: the order of a sort.
SHOWN = {"pass": ("pass", 0), "not applicable": ("–", 1), "warn": ("warn", 2), "fail": ("FAIL", 3)}


def read_audit(subject: Subject) -> dict[str, Any] | None:
    """The verdicts that a run keeps, if they are of its present weights.

    Raises:
        EvaluationError: The file is damaged.
    """
    path = subject.run.path / "audit.json"
    if not path.is_file():
        return None
    try:
        report: dict[str, Any] = json.loads(path.read_text())
        list(report["verdicts"])
    except (ValueError, KeyError, TypeError) as error:
        raise EvaluationError(
            f"{path} is damaged ({error}); run `codelength audit {subject.run.path}` again"
        ) from error
    return report if report.get("model_sha256") == subject.run.model_sha256 else None


def audit_tables(group: Group, subjects: Sequence[Subject]) -> list[Block]:
    """A table of verdicts and, below it, what each probe found; a note on runs that were not audited."""
    audits = {subject: read_audit(subject) for subject in subjects}
    done = {subject: report for subject, report in audits.items() if report is not None}
    if not done:
        return []
    columns = [Column("model"), *(Column(probe, name) for probe, name in PROBE_NAMES.items())]
    rows = [[Cell(s.name, link=_anchor(group, s)), *_cells(report)] for s, report in done.items()]
    note = "– does not apply. " + ", ".join(f"{probe} {name}" for probe, name in PROBE_NAMES.items()) + "."
    blocks: list[Block] = [Table(f"{group.data}, {group.split}: verdicts of the audit", columns, rows, note)]
    missing = [subject.name for subject, report in audits.items() if report is None]
    if missing:
        blocks.append(Note(f"Not audited with these weights: {', '.join(missing)}; run codelength audit on them."))
    return blocks + [_details(group, subject, report) for subject, report in done.items()]


def _anchor(group: Group, subject: Subject) -> str:
    return anchor_of(f"audit-{group.key}-{subject.name}")


def _cells(report: dict[str, Any]) -> list[Cell]:
    found = {verdict["probe"]: verdict["status"] for verdict in report["verdicts"]}
    return [Cell(*SHOWN[found.get(probe, "not applicable")]) for probe in PROBE_NAMES]


def _details(group: Group, subject: Subject, report: dict[str, Any]) -> Record:
    fields = [
        (
            f"{verdict['probe']} {verdict['status']}",
            verdict["message"] or "–",
            " ".join(filter(None, [verdict["cause"], json.dumps(verdict["evidence"], ensure_ascii=False)])),
        )
        for verdict in report["verdicts"]
    ]
    failed = [verdict["probe"] for verdict in report["verdicts"] if verdict["status"] == "fail"]
    words = f"failed {', '.join(failed)}" if failed else "no probe failed"
    place = f"{report['data']}, {report['split']}" if report.get("data") else "no data"
    return Record(_anchor(group, subject), f"Audit of {subject.name} on {place}: {words}", fields)
