"""Charts say what they show, and show what was logged."""

from __future__ import annotations

import dataclasses
import json
import math

from codelength.report.collect import Difference, collect
from codelength.report.figures import describe_difference, forest, k_curves, training_curves
from codelength.run import load_run
from codelength.units import bits_per_dim


def test_forest_describes_every_run(runs, outline):
    (group,) = collect(runs)
    figure = forest(group)
    found = outline(figure.svg)
    for m in group.measured[1:]:
        assert describe_difference(m) in found.text
        assert m.subject.name in found.text
    bounds = [m for m in group.measured[1:] if m.mark]
    assert figure.svg.count("open") == len(bounds)
    assert len(found.all("circle")) == 2


def test_forest_of_one_run(runs):
    assert forest(collect(runs[:1])[0]) is None


def test_forest_without_and_with_endless_intervals(runs):
    (group,) = collect(runs)
    unknown = Difference(0.5, math.nan, math.nan, 0.5, "")
    endless = Difference(0.5, -50.0, 51.0, 0.5, "")
    for difference, words in ((unknown, "one cluster"), (endless, "◂")):
        measured = [group.measured[0], dataclasses.replace(group.measured[1], difference=difference)]
        svg = forest(dataclasses.replace(group, measured=measured)).svg
        assert words in svg
        assert "nan" not in svg


def test_training_curves(runs, outline):
    subjects = [m.subject for m in collect(runs)[0].measured]
    for by in ("cpu_seconds", "examples"):
        figure = training_curves(subjects, by)
        assert len(outline(figure.svg).all("polyline")) == 3
        assert [name for name, _ in figure.legend] == [subject.name for subject in subjects]
        assert "made ends at 3.200" in figure.svg
    assert training_curves([], "examples") is None


def test_long_fall_is_cut_and_it_says_so(runs, new_run, tmp_path):
    run = new_run(tmp_path / "fall", "mean_field", {"components": 1})
    values = [500.0, 3.0, 2.0, 1.99]
    lines = [
        {"step": i, "split": "validation", "bits_per_dim": value, "cpu_seconds": 10.0**i, "examples": i}
        for i, value in enumerate(values)
    ]
    (run.path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    subjects = [m.subject for m in collect([load_run(run.path)])[0].measured]
    figure = training_curves(subjects, "cpu_seconds")
    assert "cut off" in figure.caption
    assert "(logarithmic)" in figure.svg


def test_k_curves(runs, outline):
    (group,) = collect(runs)
    figure = k_curves(group)
    bound = next(m for m in group.measured if m.mark)
    curve = bound.evaluation.curve
    assert f"{bits_per_dim(curve[max(curve)], 64):.3f} at K = 8" in outline(figure.svg).text
    exact = [m for m in group.measured if not m.mark]
    assert k_curves(dataclasses.replace(group, measured=exact)) is None
