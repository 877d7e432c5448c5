"""Verdicts in a report: shown if they are of the present weights, refused if damaged."""

from __future__ import annotations

import json
import shutil

import pytest

from codelength.errors import EvaluationError
from codelength.report.audits import audit_tables, read_audit
from codelength.report.collect import collect
from codelength.report.write import write_report
from codelength.run import load_run

VERDICTS = [
    {
        "probe": "P1",
        "name": "normalization",
        "status": "pass",
        "evidence": {"worst": 1e-9},
        "message": "sums to 1",
        "cause": "",
    },
    {
        "probe": "P8",
        "name": "baselines",
        "status": "fail",
        "evidence": {},
        "message": "worse than noise",
        "cause": "untrained",
    },
]


@pytest.fixture
def audited(runs, tmp_path):
    """A run with verdicts on its present weights."""
    run = load_run(shutil.copytree(runs[1].path, tmp_path / "made"))
    report = {"model_sha256": run.model_sha256, "data": "digits", "split": "validation", "verdicts": VERDICTS}
    (run.path / "audit.json").write_text(json.dumps(report))
    return run


def test_verdicts(audited, runs):
    group = collect([audited, runs[0]])[0]
    table, note, details = audit_tables(group, [m.subject for m in group.measured])
    cells = {column.heading: cell.text for column, cell in zip(table.columns, table.rows[0], strict=True)}
    assert cells["model"] == "made"
    assert (cells["P1"], cells["P8"], cells["P2"]) == ("pass", "FAIL", "–")
    assert table.rows[0][0].link == details.anchor
    assert "mean_field" in note.text
    assert ("P8 fail", "worse than noise", "untrained {}") in details.fields
    assert "failed P8" in details.summary


def test_in_the_page(audited, tmp_path):
    page = write_report([audited], tmp_path / "r.html", pictures=False).read_text()
    assert "verdicts of the audit" in page
    assert "worse than noise" in page


def test_verdicts_of_other_weights_are_not_shown(audited, runs):
    path = audited.path / "audit.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_sha256": "0" * 64}))
    group = collect([audited])[0]
    assert audit_tables(group, [m.subject for m in group.measured]) == []


def test_damaged(audited):
    (audited.path / "audit.json").write_text('{"verdicts": ')
    with pytest.raises(EvaluationError, match="run `codelength audit"):
        read_audit(collect([audited])[0].measured[0].subject)
