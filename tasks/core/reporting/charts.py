"""The charts of a run, as SVG: throughput, window and errors over time; histograms of requests."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tasks.core.reporting.histogram import Histogram
from tasks.core.reporting.series import Snapshot
from tasks.core.reporting.svg import (
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

_WIDTH, _LEFT, _RIGHT = 760, 56, 16
_PANEL_HEIGHT, _PANEL_GAP, _TOP = 92, 44, 34
_BARS_WIDTH, _BARS_HEIGHT = 374, 210
_X_LABELS = 7
_MIN_INTERVAL_S = 0.5
"""Shortest time between two snapshots for a rate. Shorter intervals would show single rows as peaks, longer
ones hide changes. Snapshots are normally 1 s apart; half of that drops only the last one. Chosen by
reasoning."""
Points = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class _Panel:
    title: str
    values: Points
    kind: str = "main"
    others: Points | None = None


def timeline(series: Sequence[Snapshot]) -> str:
    """Charts of rows per second, requests in flight, and errors per second, one below another."""
    panels = [
        _Panel("Rows per second", _rates(series, "rows")),
        _Panel(
            "Requests in flight (dashed: window)",
            [(snapshot.seconds, snapshot.in_flight) for snapshot in series],
            others=[(snapshot.seconds, snapshot.window) for snapshot in series],
        ),
        _Panel("Errors per second: requests rejected or lost", _rates(series, "errors"), "bad"),
    ]
    max_s = series[-1].seconds if series else 1.0
    step = _PANEL_HEIGHT + _PANEL_GAP
    parts = [_panel(panel, _TOP + index * step, max_s) for index, panel in enumerate(panels)]
    unit_s, unit = time_unit(max_s)
    height = _TOP + len(panels) * step + 8
    below = text(_LEFT + _plot_width() / 2, height - 12, f"{unit} since the run began", "faint", "middle")
    marks = [(mark * unit_s, f"{mark:g}") for mark in ticks(max_s / unit_s, 8) if mark * unit_s <= max_s]
    last = _box(_TOP + (len(panels) - 1) * step, max_s, 1.0)
    return drawing(_WIDTH, height, "The run over time", [*parts, scale_x(last, marks), below])


def bars(histogram: Histogram, title: str, unit: str) -> str:
    """A bar chart of a histogram; the bars have equal widths, although the buckets do not."""
    first, last = _used(histogram)
    counts = histogram.counts[first : last + 1]
    marks = ticks(max(counts, default=0), 4)
    width, height = _BARS_WIDTH - _LEFT - _RIGHT, _BARS_HEIGHT - _TOP - 44
    box = Box(_LEFT, _TOP, width, height, max(len(counts), 1), marks[-1])
    drawn = [
        f'<rect class="bar" x="{box.x(index) + 1:.1f}" y="{box.y(count):.1f}" '
        f'width="{max(box.x(1) - box.x(0) - 2, 1):.1f}" height="{box.y(0) - box.y(count):.1f}" rx="1.5"/>'
        for index, count in enumerate(counts)
        if count
    ]
    every = len(counts) // _X_LABELS + 1
    edges = [0.0, *histogram.bounds][first : last + 2]
    labels = [(float(index), number(edge)) for index, edge in enumerate(edges) if index % every == 0]
    parts = [text(_LEFT, 20, title, "text title"), scale_y(box, marks), *drawn, scale_x(box, labels)]
    below = text(_LEFT + width / 2, _BARS_HEIGHT - 8, unit, "faint", "middle")
    return drawing(_BARS_WIDTH, _BARS_HEIGHT, title, [*parts, below])


def _used(histogram: Histogram) -> tuple[int, int]:
    """The range of buckets to draw: from the first to the last one in use, and one more on each side."""
    used = [index for index, count in enumerate(histogram.counts) if count]
    if not used:
        return 0, -1
    return max(used[0] - 1, 0), min(used[-1] + 1, len(histogram.counts) - 1)


def _panel(panel: _Panel, top: float, max_s: float) -> str:
    values = [value for _, value in [*panel.values, *(panel.others or [])]]
    marks = ticks(max(values, default=0.0), 3)
    box = _box(top, max_s, marks[-1])
    drawn = _pixels(panel.values, box)
    filled = area(drawn, box.y(0), "bad-area" if panel.kind == "bad" else "area")
    others = line(_pixels(panel.others, box), "other") if panel.others else ""
    title = text(_LEFT, top - 12, panel.title, "text title")
    floor = rule(box.left, box.y(0), box.left + box.width, box.y(0), "axis")
    return title + scale_y(box, marks) + filled + others + line(drawn, panel.kind) + floor


def _box(top: float, max_x: float, max_y: float) -> Box:
    return Box(_LEFT, top, _plot_width(), _PANEL_HEIGHT, max_x, max_y)


def _plot_width() -> float:
    return _WIDTH - _LEFT - _RIGHT


def _pixels(points: Points, box: Box) -> Points:
    return [(box.x(seconds), box.y(value)) for seconds, value in points]


def _rates(series: Sequence[Snapshot], counter: str) -> Points:
    """Rates between successive snapshots; 0 where the rows of a retried partition were subtracted."""
    count = _errors if counter == "errors" else _rows
    return [
        (later.seconds, max(count(later) - count(one), 0) / (later.seconds - one.seconds))
        for one, later in pairwise(series)
        if later.seconds - one.seconds >= _MIN_INTERVAL_S
    ]


def _rows(snapshot: Snapshot) -> int:
    return snapshot.rows


def _errors(snapshot: Snapshot) -> int:
    return snapshot.bill.refused + snapshot.bill.lost
