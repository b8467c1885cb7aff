"""Curves as SVG, written by hand so that a page needs no library and no network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

__all__ = ["Curve", "Mark", "chart"]

# The size of a chart and of the margins around its curves, in units of its own.
_WIDTH, _HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 46, 42
# More points than these are not seen.
_MOST_POINTS = 600


@dataclass(frozen=True)
class Curve:
    """Hold one curve: its name, its class in the style sheet, and a value for each iteration."""

    name: str
    style: str
    values: Sequence[float]


@dataclass(frozen=True)
class Mark:
    """Hold a line at one iteration (``axis="x"``) or value (``"y"``), with its name."""

    name: str
    style: str
    at: float
    axis: str = "x"


@dataclass(frozen=True)
class _Axis:
    """Map values to positions, linearly or by their logarithm."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool

    def __call__(self, value: float) -> float:
        share = (self._scaled(value) - self._scaled(self.low)) / (
            self._scaled(self.high) - self._scaled(self.low)
        )
        return self.start + share * (self.end - self.start)

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.is_log else value

    def ticks(self) -> list[float]:
        """Return some round numbers within the range."""
        if self.is_log:
            exponents = range(
                math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1
            )
            powers = [10.0**exponent for exponent in exponents]
            if len(powers) > 1:
                return powers[:: -(-len(powers) // 6)]
        step = 10.0 ** math.floor(math.log10((self.high - self.low) / 4))
        step = next(m * step for m in (1, 2, 5, 10, 20) if (self.high - self.low) / (m * step) <= 6)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [step * number for number in range(first, last + 1)]


def chart(
    title: str,
    unit: str,
    iterations: Sequence[float],
    curves: Sequence[Curve],
    marks: Sequence[Mark] = (),
    stages: Sequence[str] = (),
    *,
    log_x: bool = False,
    log_y: bool = False,
) -> str:
    """Return a drawing of curves over iterations; empty if they have no value that can be drawn.

    Parameters
    ----------
    title
        What is drawn, for those who do not see it.
    unit
        What is written beside the values.
    iterations
        The iterations, positive and increasing.
    curves
        The curves, with as many values.
    marks
        Lines to draw besides.
    stages
        The name of the stage of each iteration; a line is drawn where it changes.
    log_x, log_y
        Whether an axis is logarithmic; neither is by default.

    Returns
    -------
    str
        An element ``<svg>``, whose colours are those of the style sheet.
    """

    def is_drawn(value: float) -> bool:
        return math.isfinite(value) and (value > 0 or not log_y)

    values = [value for curve in curves for value in curve.values if is_drawn(value)]
    if not values or not iterations:
        return ""
    shown = [m for m in marks if (is_drawn(m.at) if m.axis == "y" else math.isfinite(m.at))]
    values += [mark.at for mark in shown if mark.axis == "y"]
    x = _axis(iterations, _LEFT, _WIDTH - _RIGHT, log_x, 0.0)
    y = _axis(values, _HEIGHT - _BOTTOM, _TOP, log_y, 0.05)
    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">',
        *_frame(x, y, unit),
        *_stages(x, iterations, stages),
    ]
    for mark in shown:
        ends = f'x1="{x(mark.at):.1f}" x2="{x(mark.at):.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"'
        if mark.axis == "y":
            at = f"{y(mark.at):.1f}"
            ends = f'x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at}" y2="{at}"'
        parts.append(f'<line class="mark {mark.style}" {ends}/>')
    for curve in curves:
        parts += _line(curve, iterations, x, y, is_drawn)
    parts += _legend([*curves, *shown])
    return "\n".join([*parts, "</svg>"])


def _axis(values: Sequence[float], start: float, end: float, is_log: bool, margin: float) -> _Axis:
    low, high = float(min(values)), float(max(values))
    if is_log:
        factor = 1.5 if low == high else (high / low) ** margin
        return _Axis(low / factor, high * factor, start, end, True)
    extra = max(abs(low), 1.0) / 2 if low == high else margin * (high - low)
    return _Axis(low - extra, high + extra, start, end, False)


def _frame(x: _Axis, y: _Axis, unit: str) -> list[str]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for value in y.ticks():
        at = y(value)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:.4g}</text>'
        )
    for value in x.ticks():
        if value == round(value):
            at = x(value)
            parts.append(
                f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{bottom}"/>'
                f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{value:.0f}</text>'
            )
    parts.append(
        f'<text x="{(_LEFT + right) / 2:.0f}" y="{_HEIGHT - 8}" text-anchor="middle">'
        "iteration</text>"
        f'<text x="14" y="{(_TOP + bottom) / 2:.0f}" text-anchor="middle" '
        f'transform="rotate(-90 14 {(_TOP + bottom) / 2:.0f})">{escape(unit)}</text>'
    )
    return parts


def _stages(x: _Axis, iterations: Sequence[float], stages: Sequence[str]) -> list[str]:
    parts = []
    for before, after, at in zip(stages, stages[1:], iterations[1:]):
        if before != after:
            place = x(at - 0.5)
            parts.append(
                f'<line class="stage" x1="{place:.1f}" x2="{place:.1f}" y1="{_TOP}" '
                f'y2="{_HEIGHT - _BOTTOM}"/>'
                f'<text x="{place + 4:.1f}" y="{_HEIGHT - _BOTTOM - 6}">'
                f"stage {escape(str(after))}</text>"
            )
    return parts


def _line(
    curve: Curve,
    iterations: Sequence[float],
    x: _Axis,
    y: _Axis,
    is_drawn: Callable[[float], bool],
) -> list[str]:
    points = list(zip(iterations, curve.values))
    chosen = points[:: -(-len(points) // _MOST_POINTS)]
    if chosen[-1] != points[-1]:
        chosen.append(points[-1])
    places = [f"{x(k):.1f},{y(value):.1f}" for k, value in chosen if is_drawn(value)]
    if len(places) == 1:  # a line of one point would not be seen
        at_x, at_y = places[0].split(",")
        return [f'<circle class="{curve.style}" cx="{at_x}" cy="{at_y}" r="3"/>']
    return [f'<polyline class="curve {curve.style}" points="{" ".join(places)}"/>']


def _legend(items: Sequence[Any]) -> list[str]:
    parts: list[str] = []
    left, top = float(_LEFT), 14
    for item in items:
        width = 34 + 6.6 * len(item.name)
        if left + width > _WIDTH and left > _LEFT:
            left, top = float(_LEFT), top + 17
        kind = "mark" if isinstance(item, Mark) else "curve"
        parts.append(
            f'<line class="{kind} {item.style}" x1="{left:.0f}" x2="{left + 18:.0f}" '
            f'y1="{top - 4}" y2="{top - 4}"/>'
            f'<text x="{left + 23:.0f}" y="{top}">{escape(item.name)}</text>'
        )
        left += width
    return parts
