"""A run's charts, as SVG: throughput, window and errors over time, and how often which size occurred."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tasks.core.reporting.axes import (
    Box,
    area,
    drawing,
    line,
    number,
    rule,
    scale_x,
    scale_y,
    text,
    ticks,
    time_unit,
)
from tasks.core.reporting.histogram import Histogram
from tasks.core.reporting.series import Pulse

_WIDTH, _LEFT, _RIGHT = 760, 56, 16
_PANEL_HEIGHT, _PANEL_GAP, _TOP = 92, 44, 34
_BARS_WIDTH, _BARS_HEIGHT = 374, 210
_X_LABELS = 7
_LEAST_S = 0.5
"""Between pulses closer than this a rate says nothing."""
Points = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class _Panel:
    title: str
    values: Points
    kind: str = "main"
    others: Points | None = None


def timeline(series: Sequence[Pulse]) -> str:
    """Rows per second, requests in flight with their window, and errors per second, one below the other."""
    panels = [
        _Panel("Rows per second", _rates(series, "rows")),
        _Panel(
            "Requests in flight (dashed: allowed)",
            [(pulse.seconds, pulse.in_flight) for pulse in series],
            others=[(pulse.seconds, pulse.window) for pulse in series],
        ),
        _Panel("Errors per second: requests refused or lost", _rates(series, "errors"), "bad"),
    ]
    most_s = series[-1].seconds if series else 1.0
    step = _PANEL_HEIGHT + _PANEL_GAP
    parts = [_panel(panel, _TOP + place * step, most_s) for place, panel in enumerate(panels)]
    unit_s, unit = time_unit(most_s)
    height = _TOP + len(panels) * step + 8
    below = text(_LEFT + _plot_width() / 2, height - 12, f"{unit} since the run began", "faint", "middle")
    marks = [(mark * unit_s, f"{mark:g}") for mark in ticks(most_s / unit_s, 8) if mark * unit_s <= most_s]
    last = _box(_TOP + (len(panels) - 1) * step, most_s, 1.0)
    return drawing(_WIDTH, height, "The run over time", [*parts, scale_x(last, marks), below])


def bars(histogram: Histogram, title: str, unit: str) -> str:
    """How many requests fell into which bucket; all are drawn equally wide, though each is twice the last."""
    first, last = _used(histogram)
    counts = histogram.counts[first : last + 1]
    marks = ticks(max(counts, default=0), 4)
    width, height = _BARS_WIDTH - _LEFT - _RIGHT, _BARS_HEIGHT - _TOP - 44
    box = Box(_LEFT, _TOP, width, height, max(len(counts), 1), marks[-1])
    drawn = [
        f'<rect class="bar" x="{box.x(place) + 1:.1f}" y="{box.y(count):.1f}" '
        f'width="{max(box.x(1) - box.x(0) - 2, 1):.1f}" height="{box.y(0) - box.y(count):.1f}" rx="1.5"/>'
        for place, count in enumerate(counts)
        if count
    ]
    every = len(counts) // _X_LABELS + 1
    edges = [0.0, *histogram.bounds][first : last + 2]
    labels = [(float(place), number(edge)) for place, edge in enumerate(edges) if place % every == 0]
    parts = [text(_LEFT, 20, title, "text title"), scale_y(box, marks), *drawn, scale_x(box, labels)]
    below = text(_LEFT + width / 2, _BARS_HEIGHT - 8, unit, "faint", "middle")
    return drawing(_BARS_WIDTH, _BARS_HEIGHT, title, [*parts, below])


def _used(histogram: Histogram) -> tuple[int, int]:
    """The first and the last bucket with a value in it, with one to spare on each side."""
    used = [place for place, count in enumerate(histogram.counts) if count]
    if not used:
        return 0, -1
    return max(used[0] - 1, 0), min(used[-1] + 1, len(histogram.counts) - 1)


def _panel(panel: _Panel, top: float, most_s: float) -> str:
    values = [value for _, value in [*panel.values, *(panel.others or [])]]
    marks = ticks(max(values, default=0.0), 3)
    box = _box(top, most_s, marks[-1])
    drawn = _pixels(panel.values, box)
    filled = area(drawn, box.y(0), "bad-area" if panel.kind == "bad" else "area")
    others = line(_pixels(panel.others, box), "other") if panel.others else ""
    title = text(_LEFT, top - 12, panel.title, "text title")
    floor = rule(box.left, box.y(0), box.left + box.width, box.y(0), "axis")
    return title + scale_y(box, marks) + filled + others + line(drawn, panel.kind) + floor


def _box(top: float, most_x: float, most_y: float) -> Box:
    return Box(_LEFT, top, _plot_width(), _PANEL_HEIGHT, most_x, most_y)


def _plot_width() -> float:
    return _WIDTH - _LEFT - _RIGHT


def _pixels(points: Points, box: Box) -> Points:
    return [(box.x(seconds), box.y(value)) for seconds, value in points]


def _rates(series: Sequence[Pulse], what: str) -> Points:
    """Per second, between one pulse and the next; 0 where rows of a retried partition are taken back."""
    count = _errors if what == "errors" else _rows
    return [
        (later.seconds, max(count(later) - count(one), 0) / (later.seconds - one.seconds))
        for one, later in pairwise(series)
        if later.seconds - one.seconds >= _LEAST_S
    ]


def _rows(pulse: Pulse) -> int:
    return pulse.rows


def _errors(pulse: Pulse) -> int:
    return pulse.bill.refused + pulse.bill.lost
