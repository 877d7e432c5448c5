"""Scales and ticks put numbers where they belong."""

from __future__ import annotations

import itertools
import math

import pytest

from codelength.report.svg import Drawing, Scale, draw_axes, log_ticks, ticks


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.3, 0.31), (3.2, 3.21), (0, 123456), (-5, -4)])
def test_ticks_are_round_and_inside(low, high):
    found = ticks(low, high)
    assert 3 <= len(found) <= 12
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in found)
    steps = {round(b - a, 9) for a, b in itertools.pairwise(found)}
    assert len(steps) == 1
    digits = f"{steps.pop():e}"[0]
    assert digits in "125"


def test_ticks_of_a_point():
    assert ticks(2.0, 2.0) == [2.0]


def test_log_ticks():
    assert log_ticks(1, 1000) == [1, 10, 100, 1000]
    assert log_ticks(3, 30) == [5, 10, 20]
    assert all(3 <= value <= 8 for value in log_ticks(3, 8))


def test_scale_ends_and_middle():
    linear, log = Scale(0, 10, 100, 200), Scale(1, 100, 0, 50, log=True)
    assert [linear(v) for v in (0, 5, 10, -3, 99)] == [100, 150, 200, 100, 200]
    assert log(10) == pytest.approx(25)
    assert Scale(2, 2, 0, 10)(2) == 5
    assert Scale(2, 2, 0, 10, log=True)(2) == 5


def test_words_are_escaped(outline):
    drawing = Drawing(10, 10, "<t>", 'a "quoted" & <d>')
    drawing.text(1, 1, "<script>")
    drawing.dot(1, 1, "s0", "<b>")
    drawing.rect(0, 0, 1, 1, "s0", "<i>")
    drawing.path([(0, 0), (1, 1)], "s1")
    draw_axes(drawing, Scale(0, 1, 0, 10), Scale(0, 1, 10, 0), "<x>", "<y>")
    svg = drawing.render()
    assert "<script>" not in svg
    assert "<b>" not in svg
    found = outline(svg)
    assert found.all("svg")[0]["viewbox"] == "0 0 10 10"
    for words in ("<t>", 'a "quoted" & <d>', "<script>", "<x>", "<y>"):
        assert words in found.text


def test_numbers_are_finite():
    drawing = Drawing(10, 10, "t", "d")
    draw_axes(drawing, Scale(0, 0, 0, 10), Scale(-1e-9, 1e-9, 10, 0), "x", "y")
    assert "nan" not in drawing.render()
    assert "inf" not in drawing.render()
    assert math.isfinite(Scale(0, 0, 0, 10)(0))
