"""Charts of a report: differences with intervals, training curves, bounds over K."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from codelength.report.collect import Group, Measured, Subject
from codelength.report.page import Figure
from codelength.report.svg import Drawing, Scale, colour_class, draw_axes, ticks
from codelength.units import bits_per_dim

WIDTH = 640
_DASHES = ("", " dash1", " dash2", " dash3")


def line_class(index: int) -> str:
    """CSS classes of a line: a colour, and a dash where colours repeat."""
    return f"{colour_class(index)} stroke{_DASHES[index // 8 % len(_DASHES)]}"


def legend_of(subjects: Sequence[Subject]) -> list[tuple[str, str]]:
    """(name, CSS class) of each series."""
    return [(subject.name, colour_class(subject.colour)) for subject in subjects]


def forest(group: Group) -> Figure | None:
    """Differences to the best run with their paired 95 % intervals; None with fewer than two runs."""
    rows = [m for m in group.measured if m.difference is not None]
    if not rows:
        return None
    best = group.measured[0].subject.name
    labels = [f"{m.subject.name} {m.mark}".strip() for m in rows]
    left = min(30.0 + 7.2 * max(len(label) for label in labels), 260.0)
    low, high = _forest_range(rows)
    height = 34.0 * len(rows) + 56
    x = Scale(low, high, left, WIDTH - 24, False)
    words = "; ".join(f"{label}: {describe_difference(m)}" for label, m in zip(labels, rows, strict=True))
    drawing = Drawing(WIDTH, height, f"Bits/dim above {best} on {group.data}", words)
    for value in ticks(low, high, 5):
        drawing.line(x(value), 8, x(value), height - 46, "grid")
        drawing.text(x(value), height - 28, f"{value:+g}".replace("-", "−") if value else "0", "tick", "middle")
    drawing.line(x(0), 8, x(0), height - 46, "zero")
    for i, (label, m) in enumerate(zip(labels, rows, strict=True)):
        _forest_row(drawing, x, 26 + 34.0 * i, label, m)
    drawing.text(
        (left + WIDTH - 24) / 2, height - 8, f"bits/dim above {best}, same data pair by pair", "label", "middle"
    )
    return Figure(
        drawing.render(),
        f"Difference to {best} in bits/dim, with 95 % intervals from paired differences. Hollow points are bounds.",
    )


def _forest_range(rows: Sequence[Measured]) -> tuple[float, float]:
    """What the axis shows: every mean and zero, and intervals as far as three times that reach."""
    means = [m.difference.mean for m in rows if m.difference is not None]
    both = [end for m in rows if m.difference is not None for end in (m.difference.low, m.difference.high)]
    ends = [end for end in both if math.isfinite(end)]
    reach = max([*map(abs, means), 1e-3])
    low = max(min([0.0, *means, *ends]), -reach)
    high = min(max([0.0, *means, *ends]), 3 * reach)
    margin = 0.04 * (high - low)
    return low - margin, high + margin


def _forest_row(drawing: Drawing, x: Scale, y: float, label: str, m: Measured) -> None:
    difference = m.difference
    assert difference is not None
    colour = colour_class(m.subject.colour)
    drawing.text(x.start - 10, y + 4, label if len(label) <= 32 else label[:31] + "…", "label", "end")
    ends = [end for end in (difference.low, difference.high) if math.isfinite(end)]
    if ends:
        drawing.line(x(ends[0]), y, x(ends[-1]), y, f"{colour} stroke whisker")
    for end in ends:
        if x.low <= end <= x.high:
            drawing.line(x(end), y - 5, x(end), y + 5, f"{colour} stroke whisker")
        else:  # the interval goes on beyond the chart
            drawing.text(x(end), y + 5, "▸" if end > x.high else "◂", "label", "middle")
    hollow = f"{colour} stroke open" if m.mark else f"{colour} fill"
    drawing.dot(x(difference.mean), y, hollow, f"{label}: {describe_difference(m)}", 5.5)


def describe_difference(m: Measured) -> str:
    """The difference to the best run in words: "+0.120 (+0.100 to +0.140)"."""
    d = m.difference
    if d is None:
        return "best"
    return signed(d.mean) + (f" ({signed(d.low)} to {signed(d.high)})" if math.isfinite(d.low) else " (one cluster)")


def signed(value: float) -> str:
    """A difference in bits/dim with its sign.

    >>> signed(0.12), signed(-0.0301)
    ('+0.120', '−0.030')
    """
    return f"{value:+.3f}".replace("-", "−")


def training_curves(subjects: Sequence[Subject], by: str) -> Figure | None:
    """Validation code length against `by`: "cpu_seconds" or "examples"; None where nothing was logged.

    Training starts at any height; the chart shows up to twice the range of the last values and says so.
    """
    label = {"cpu_seconds": "CPU-seconds of training", "examples": "training examples seen"}[by]
    series = {subject: _curve(subject.run.metrics(), by) for subject in subjects}
    drawn = {subject: points for subject, points in series.items() if points}
    if not drawn:
        return None
    lasts = [points[-1][1] for points in drawn.values()]
    bests = [min(value for _, value in points) for points in drawn.values()]
    low, high = _visible(min(bests), max(lasts), max(value for points in drawn.values() for _, value in points))
    start = min(points[0][0] for points in drawn.values())
    end = max(points[-1][0] for points in drawn.values())
    log = start > 0 and end / start > 30
    words = "; ".join(f"{s.name} ends at {points[-1][1]:.3f}" for s, points in drawn.items())
    drawing = Drawing(WIDTH, 340, f"Validation bits/dim against {label}", f"{words}.")
    x, y = Scale(start if log else 0, end, 68, WIDTH - 20, log), Scale(low, high, 290, 12)
    draw_axes(drawing, x, y, label + (" (logarithmic)" if log else ""), "bits/dim, validation")
    for subject, points in drawn.items():
        _draw_line(drawing, x, y, points, subject)
    clipped = " Values above the chart are cut off at its upper edge." if _above(drawn.values(), high) else ""
    return Figure(
        drawing.render(),
        f"Validation code length in training against {label} (of a bound: its one-sample value).{clipped}",
        legend_of(list(drawn)),
    )


def _visible(low: float, last: float, top: float) -> tuple[float, float]:
    high = min(top, last + max(last - low, 0.15 * abs(last), 0.05))
    margin = 0.03 * max(high - low, 1e-6)
    return low - margin, high + margin


def _above(curves: Any, high: float) -> bool:
    return any(value > high for points in curves for _, value in points)


def _draw_line(drawing: Drawing, x: Scale, y: Scale, points: Sequence[tuple[float, float]], subject: Subject) -> None:
    drawing.path([(x(a), y(b)) for a, b in points], line_class(subject.colour))
    a, b = points[-1]
    drawing.dot(x(a), y(b), f"{colour_class(subject.colour)} fill", f"{subject.name}: {b:.4f} at {a:,.0f}")


def _curve(lines: Sequence[dict[str, Any]], by: str) -> list[tuple[float, float]]:
    """(x, bits/dim) of the validations."""
    return [
        (float(line[by]), float(line["bits_per_dim"]))
        for line in lines
        if line.get("split") == "validation" and line.get("bits_per_dim") is not None
    ]


def k_curves(group: Group) -> Figure | None:
    """How far bounds lie above their value at the most samples K, against K; None where there are no curves."""
    curves = {
        m: [(float(k), bits_per_dim(nats, group.num_dims)) for k, nats in sorted(m.evaluation.curve.items())]
        for m in group.measured
        if len(m.evaluation.curve) > 1
    }
    if not curves:
        return None
    words = "; ".join(
        f"{m.subject.name}: {points[0][1]:.3f} at K = {points[0][0]:.0f}, {points[-1][1]:.3f} at K = {points[-1][0]:.0f}"
        for m, points in curves.items()
    )
    above = {m: [(k, value - points[-1][1]) for k, value in points] for m, points in curves.items()}
    heights = [value for points in above.values() for _, value in points]
    most, low, high = max(points[-1][0] for points in curves.values()), min(heights), max(heights)
    margin = 0.06 * max(high - low, 1e-4)
    drawing = Drawing(WIDTH, 320, f"Bounds on {group.data} against the number of samples K", words)
    x, y = Scale(1, most, 68, WIDTH - 20, log=True), Scale(low - margin, high + margin, 270, 12)
    draw_axes(drawing, x, y, "samples K (logarithmic)", "bits/dim above the last value")
    for m, points in above.items():
        for (a, b), (_, value) in zip(points, curves[m], strict=True):
            colour = f"{colour_class(m.subject.colour)} fill"
            drawing.dot(x(a), y(b), colour, f"{m.subject.name} at K = {a:.0f}: ≤ {value:.4f}", 3)
        drawing.path([(x(a), y(b)) for a, b in points], line_class(m.subject.colour))
    return Figure(
        drawing.render(),
        f"Upper bounds fall with the number of samples K. {words}. Where a curve is still steep at its end, the model's own "
        "code is shorter than the bound says.",
        legend_of([m.subject for m in curves]),
    )
