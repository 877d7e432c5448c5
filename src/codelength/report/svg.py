"""A small drawing board: charts as inline SVG, styled by the page's CSS, so that they follow light, dark and print.

Colours are CSS classes (`s0` ... `s7` for series, `grid`, `axis`); text inherits the page's colour. Every chart has a
title and a description for readers who do not see it. Text is escaped here, so the result is safe to put in a page.
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

NUM_COLOURS = 8
_ids = itertools.count(1)


def colour_class(index: int) -> str:
    """CSS class of the series `index`; colours repeat after NUM_COLOURS."""
    return f"s{index % NUM_COLOURS}"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers (1, 2 or 5 times a power of ten) in [low, high].

    >>> ticks(0.0, 8.0)
    [0.0, 2.0, 4.0, 6.0, 8.0]
    """
    if not high > low:
        return [low]
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((factor * power for factor in (1, 2, 5, 10)), key=lambda size: abs(size - raw))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    digits = max(0, -math.floor(math.log10(step)) + 1)
    return [round(i * step, digits) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten in [low, high], with 2 and 5 times them where that leaves fewer than three."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    inside = [10.0**e for e in exponents if low <= 10.0**e <= high]
    if len(inside) >= 3:
        return inside
    return [f * 10.0**e for e in exponents for f in (1, 2, 5) if low <= f * 10.0**e <= high]


def format_tick(value: float) -> str:
    """A number for an axis: no needless zeros, a true minus sign, k and M for thousands and millions.

    >>> [format_tick(v) for v in (0.0, -0.25, 1500.0, 2e6)]
    ['0', '−0.25', '1.5k', '2M']
    """
    size = abs(value)
    if size >= 1e6:
        text = f"{size / 1e6:.4g}M"
    elif size >= 1e3:
        text = f"{size / 1e3:.4g}k"
    else:
        text = f"{size:.4g}"
    return f"−{text}" if value < 0 else text


@dataclass(frozen=True)
class Scale:
    """From data to pixels along one axis.

    Args:
        low: Smallest value shown.
        high: Largest value shown.
        start: Pixel of `low`.
        end: Pixel of `high`.
        log: Logarithmic; both ends are then positive.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Pixel of `value`, values outside pinned to the ends."""
        value = min(max(value, self.low), self.high)
        if self.log:
            part = math.log(value / self.low) / math.log(self.high / self.low) if self.high > self.low else 0.5
        else:
            part = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return self.start + part * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Round values for the axis."""
        return log_ticks(self.low, self.high) if self.log else ticks(self.low, self.high, count)


@dataclass
class Drawing:
    """An SVG picture with a title and a description.

    Args:
        width: Width in pixels of the drawing's own scale.
        height: Height in the same.
        title: What it shows, in a few words.
        description: What a reader who does not see it should know, numbers included.
    """

    width: float
    height: float
    title: str
    description: str
    parts: list[str] = field(default_factory=list)

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        """A straight line."""
        self.parts.append(f'<line class="{css}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def path(self, points: Sequence[tuple[float, float]], css: str) -> None:
        """A line through points."""
        steps = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline class="{css}" points="{steps}"/>')

    def dot(self, x: float, y: float, css: str, label: str = "", radius: float = 4) -> None:
        """A point, with a tooltip."""
        tooltip = f"<title>{html.escape(label)}</title>" if label else ""
        self.parts.append(f'<circle class="{css}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}">{tooltip}</circle>')

    def rect(self, x: float, y: float, width: float, height: float, css: str, label: str = "") -> None:
        """A bar, with a tooltip."""
        tooltip = f"<title>{html.escape(label)}</title>" if label else ""
        self.parts.append(
            f'<rect class="{css}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}">{tooltip}</rect>'
        )

    def text(self, x: float, y: float, words: str, css: str = "label", anchor: str = "start") -> None:
        """Words; anchor "start", "middle" or "end"."""
        self.parts.append(
            f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(words)}</text>'
        )

    def vertical_text(self, x: float, y: float, words: str) -> None:
        """Words that run upwards, centred at (x, y)."""
        self.parts.append(
            f'<text class="label" transform="translate({x:.1f} {y:.1f}) rotate(-90)" text-anchor="middle">'
            f"{html.escape(words)}</text>"
        )

    def render(self) -> str:
        """The SVG element."""
        name = f"svg{next(_ids)}"
        return (
            f'<svg viewBox="0 0 {self.width:g} {self.height:g}" role="img" '
            f'aria-labelledby="{name}t {name}d"><title id="{name}t">{html.escape(self.title)}</title>'
            f'<desc id="{name}d">{html.escape(self.description)}</desc>{"".join(self.parts)}</svg>'
        )


def draw_axes(drawing: Drawing, x: Scale, y: Scale, x_label: str, y_label: str) -> None:
    """Grid, ticks and labels of a chart with a horizontal axis `x` and a vertical axis `y` (its start at the bottom)."""
    for value in y.ticks():
        drawing.line(x.start, y(value), x.end, y(value), "grid")
        drawing.text(x.start - 6, y(value) + 4, format_tick(value), "tick", "end")
    for value in x.ticks():
        drawing.line(x(value), y.start, x(value), y.start + 4, "axis")
        drawing.text(x(value), y.start + 18, format_tick(value), "tick", "middle")
    drawing.line(x.start, y.start, x.end, y.start, "axis")
    drawing.text((x.start + x.end) / 2, y.start + 38, x_label, "label", "middle")
    drawing.vertical_text(14, (y.start + y.end) / 2, y_label)
