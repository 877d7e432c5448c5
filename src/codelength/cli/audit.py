"""`codelength audit`: probe whether a model's number is honest."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import click

from codelength.errors import CodelengthError, UsageError

AUDIT_CONTEXT = 32
"""Tokens of a window of a Hugging Face model under audit: its tables have context times vocabulary entries."""


@click.command("audit")
@click.argument("subject", metavar="RUN|FILE.py:NAME|HF_FOLDER")
@click.option("--data", "data_name", default=None, help="Data it is meant for; a run's own by default.")
@click.option(
    "--split", default="validation", show_default=True, help="Split that is looked at; the test split only if named."
)
@click.option("--json", "as_json", is_flag=True, help="Print the verdicts as JSON.")
@click.option("--budget", default=45.0, show_default=True, type=click.FloatRange(min=1), help="Seconds, roughly.")
@click.option("--seed", default=0, show_default=True, help="Seed of inputs and noise.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Also write the JSON there."
)
def command(
    subject: str, data_name: str | None, split: str, as_json: bool, budget: float, seed: int, output: Path | None
) -> int:
    """Probe a run, the object that FILE.py:NAME returns, or a local folder of a Hugging Face causal language model.

    Ten probes: normalization, causality, batch invariance, determinism, units and constants, the evaluation loop, the rate when
    really coded, baselines, the data, error bars. Exit code 0: none failed; 1: a probe failed; 2: wrong usage; 3: the audit
    could not run. A run keeps the verdicts in its folder, audit.json.
    """
    from codelength.adapters import is_file_spec
    from codelength.adapters.huggingface import is_hugging_face_folder
    from codelength.audit import AuditError, audit
    from codelength.run import load_run

    is_run = not is_file_spec(subject) and not is_hugging_face_folder(subject)
    try:
        data = _data(subject, data_name, is_run)
        verdicts = audit(subject, data, split=split, budget=budget, seed=seed, progress=_say)
    except (UsageError, AuditError):
        raise
    except CodelengthError as error:
        raise AuditError(f"the audit could not run: {error}") from error
    failed = any(verdict.status == "fail" for verdict in verdicts)
    report = {
        "subject": subject,
        "model_sha256": load_run(subject).model_sha256 if is_run else None,
        "data": None if data is None else data.name,
        "split": None if data is None else split,
        "seed": seed,
        "passed": not failed,
        "verdicts": [verdict.to_json() for verdict in verdicts],
    }
    _write(report, [output] if output else [], Path(subject) / "audit.json" if is_run else None)
    click.echo(json.dumps(report, indent=1) if as_json else table(report))
    return 1 if failed else 0


def _data(subject: str, name: str | None, is_run: bool) -> Any:
    from codelength.adapters.huggingface import is_hugging_face_folder, load_with_text
    from codelength.data import load_data
    from codelength.run import load_run

    if is_hugging_face_folder(subject):
        if name is None:
            raise UsageError(f"{subject} does not say what it models; name the text with --data")
        return load_with_text(subject, name, context=AUDIT_CONTEXT)[1]
    if name is not None:
        return load_data(name)
    if is_run:
        config = load_run(subject).recipe.data
        return load_data(config.name, **config.options)
    return None


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


def _write(report: dict[str, Any], paths: list[Path], kept: Path | None) -> None:
    from codelength.run import write_atomically

    for path in [*paths, *([kept] if kept else [])]:
        write_atomically(path, json.dumps(report, indent=1).encode())


def table(report: dict[str, Any], width: int = 118) -> str:
    """The verdicts for a terminal: status and message of each probe, then evidence and cause of those that did not pass."""
    lines = []
    for verdict in report["verdicts"]:
        head = f"{verdict['probe']:<4}{verdict['name']:<21}{verdict['status']:<16}"
        lines += textwrap.wrap(head + verdict["message"], width, subsequent_indent=" " * 41)
        if verdict["status"] in ("fail", "warn"):
            numbers = ", ".join(f"{key} {_short(value)}" for key, value in verdict["evidence"].items())
            lines += textwrap.wrap(f"evidence: {numbers}", width, initial_indent=" " * 25, subsequent_indent=" " * 35)
            lines += textwrap.wrap(
                f"usually:  {verdict['cause']}", width, initial_indent=" " * 25, subsequent_indent=" " * 35
            )
    failed = [verdict["probe"] for verdict in report["verdicts"] if verdict["status"] == "fail"]
    lines.append(f"{report['subject']}: {'failed ' + ', '.join(failed) if failed else 'no probe failed'}")
    return "\n".join(lines)


def _short(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
