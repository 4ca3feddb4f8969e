"""The plots of docs/overload.md as SVG: goodput over offered load, and over time when ten times as much is offered."""

from collections.abc import Iterable, Sequence
from html import escape

from bench.overload_figures import Run, served
from bench.overload_upstream import CAPACITY

COLOURS = {"naive": "#c2410c", "tidegate": "#0369a1"}
BUCKET = 0.25
"""Seconds in a point of the plot over time."""
_WIDTH, _HEIGHT = 340, 220
_TOP = 1.2
"""The share of the capacity at the upper end of the y axis."""
_GREY = "#d4d4d4"

Point = tuple[float, float]
"""A place on the x axis and a share of the capacity."""


class Panel:
    """One pair of axes, `_WIDTH` wide, its origin at the lower left; x runs from 0 to `longest`."""

    def __init__(self, left: float, title: str, below: str, longest: float) -> None:
        self._left = left
        self._longest = longest
        self._parts = [
            _text(left, 24, title, weight="bold"),
            _text(left + _WIDTH / 2, _HEIGHT + 84, below, anchor="middle"),
        ]
        for share in (0, 0.5, 1):
            self._parts.append(_line([(left, self._y(share)), (left + _WIDTH, self._y(share))], _GREY))
            self._parts.append(_text(left - 6, self._y(share) + 4, f"{share:.0%}", anchor="end"))

    def mark(self, at: float, text: str) -> None:
        """A name below the x axis."""
        self._parts.append(_text(self._x(at), _HEIGHT + 64, text, anchor="middle"))

    def shade(self, start: float, end: float) -> None:
        """Grey from `start` to `end`."""
        x, width = self._x(start), self._x(end) - self._x(start)
        box = f'<rect x="{x:.1f}" y="40" width="{width:.1f}" height="{_HEIGHT}" fill="#f0f0f0"/>'
        self._parts.insert(0, box)

    def draw(self, points: Iterable[Point], colour: str, *, dots: bool = False) -> None:
        """A line from point to point."""
        placed = [(self._x(x), self._y(min(y, _TOP))) for x, y in points]
        self._parts.append(_line(placed, colour, width=2))
        if dots:
            self._parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in placed]

    def __str__(self) -> str:
        return "\n".join(self._parts)

    def _x(self, value: float) -> float:
        return self._left + value / self._longest * _WIDTH

    def _y(self, share: float) -> float:
        return 40 + _HEIGHT - share / _TOP * _HEIGHT


def plot(runs: Sequence[Run]) -> str:
    """Both panels, as one SVG document."""
    names = list(dict.fromkeys(run.target for run in runs))
    factors = sorted({run.factor for run in runs})
    over_load = Panel(60, "Goodput, of the capacity", "offered load, as a multiple of the capacity", len(factors))
    for place, factor in enumerate(factors):
        over_load.mark(place + 0.5, f"{factor:g}x")
    worst = [run for run in runs if run.factor == factors[-1]]
    effort = worst[0].effort
    length = effort.end + effort.after
    over_time = Panel(470, f"Goodput while {factors[-1]:g}x is offered (grey)", "seconds", length)
    over_time.shade(effort.before, effort.end)
    for second in range(int(length) + 1):
        over_time.mark(second, str(second))
    for name in names:
        own = sorted((run.factor, run.goodput) for run in runs if run.target == name)
        over_load.draw([(factors.index(factor) + 0.5, y) for factor, y in own], COLOURS[name], dots=True)
    for run in worst:
        over_time.draw(timeline(run), COLOURS[run.target])
    legend = [
        _text(60 + 90 * place, _HEIGHT + 112, name, colour=COLOURS[name], weight="bold")
        for place, name in enumerate(names)
    ]
    body = "\n".join([str(over_load), str(over_time), *legend])
    size = f'width="840" height="{_HEIGHT + 130}" viewBox="0 0 840 {_HEIGHT + 130}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return f'{head}\n<rect width="100%" height="100%" fill="#ffffff"/>\n{body}\n</svg>\n'


def timeline(run: Run) -> list[Point]:
    """Goodput of the requests that were due in each quarter of a second."""
    buckets = [0] * round((run.effort.end + run.effort.after) / BUCKET)
    for answer in served(run.answers):
        place = int(answer.due / BUCKET)
        if place < len(buckets):
            buckets[place] += 1
    return [((place + 0.5) * BUCKET, count / BUCKET / CAPACITY) for place, count in enumerate(buckets)]


def _line(points: Sequence[Point], colour: str, width: float = 1) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"/>'


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", colour: str = "#404040", weight: str = "normal"
) -> str:
    style = f'text-anchor="{anchor}" fill="{colour}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'
