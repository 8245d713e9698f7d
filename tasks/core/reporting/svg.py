"""SVG elements for charts: scales, ticks, labels, lines. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
"""Distances between ticks, times a power of ten."""
_UNITS = ((3 * 3600.0, 3600.0, "hours"), (180.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
"""Units of time: smallest span in seconds to use the unit for, seconds in the unit, name."""
_THOUSAND, _MILLION = 1_000, 1_000_000

STYLE = """
svg{color-scheme:light dark;font-family:system-ui,-apple-system,"Segoe UI",sans-serif;font-size:12px}
.panel{fill:#ffffff}.text{fill:#3f4653}.faint{fill:#6b7280}.title{font-weight:600;font-size:13px}
.grid{stroke:#e5e7eb}.axis{stroke:#9ca3af}.main{stroke:#2563eb}.other{stroke:#9ca3af;stroke-dasharray:4 3}
.bad{stroke:#dc2626}.main,.other,.bad{fill:none;stroke-width:1.75;stroke-linejoin:round}
.area{fill:#2563eb;opacity:.12}.bad-area{fill:#dc2626;opacity:.15}.bar{fill:#2563eb;opacity:.85}
@media (prefers-color-scheme:dark){.panel{fill:#161b22}.text{fill:#d3d9e2}.faint{fill:#9aa4b2}
.grid{stroke:#2b323c}.axis{stroke:#5b6573}.main{stroke:#6ea8fe}.other{stroke:#7c8796}.bad{stroke:#ff7b72}
.area{fill:#6ea8fe}.bad-area{fill:#ff7b72}.bar{fill:#6ea8fe}}
"""


@dataclass(frozen=True, slots=True)
class Box:
    """The rectangle of a chart, in pixels from the upper left, and the largest values of its axes."""

    left: float
    top: float
    width: float
    height: float
    max_x: float
    max_y: float

    def x(self, value: float) -> float:
        """The horizontal pixel of a value; the axis begins at 0."""
        return self.left + self.width * value / (self.max_x or 1.0)

    def y(self, value: float) -> float:
        """The vertical pixel of a value; the axis begins at 0."""
        return self.top + self.height * (1.0 - value / (self.max_y or 1.0))


def ticks(maximum: float, about: int) -> list[float]:
    """Round values from 0 up to at least the maximum, about ``about`` of them."""
    if maximum <= 0:
        return [0.0, 1.0]
    rough = maximum / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * one for one in _STEPS if power * one >= rough)
    return [step * number for number in range(math.ceil(maximum / step - 1e-9) + 1)]


def time_unit(max_s: float) -> tuple[float, str]:
    """The unit to show a span of seconds in: its length in seconds, and its name."""
    return next((seconds, name) for minimum_s, seconds, name in _UNITS if max_s >= minimum_s)


def number(value: float) -> str:
    """Format a number in few characters: 0.5, 12, 3.4k, 12M."""
    if value >= _MILLION:
        return f"{value / _MILLION:.3g}M"
    if value >= 10 * _THOUSAND:
        return f"{value / _THOUSAND:.3g}k"
    return f"{value:,.4g}"


def text(x: float, y: float, content: str, kind: str = "text", anchor: str = "start") -> str:
    """A text element; ``kind`` is its CSS class."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(content)}</text>'


def line(points: Sequence[tuple[float, float]], kind: str) -> str:
    """A line through the given pixels."""
    return f'<polyline class="{kind}" points="{_pixels(points)}"/>'


def area(points: Sequence[tuple[float, float]], floor: float, kind: str) -> str:
    """The area between a line and the horizontal line at ``floor``."""
    if not points:
        return ""
    closed = [(points[0][0], floor), *points, (points[-1][0], floor)]
    return f'<polygon class="{kind}" points="{_pixels(closed)}"/>'


def rule(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line between two pixels."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def scale_y(box: Box, marks: Sequence[float]) -> str:
    """Horizontal grid lines, with their values to the left."""
    return "".join(
        rule(box.left, box.y(mark), box.left + box.width, box.y(mark), "grid" if mark else "axis")
        + text(box.left - 8, box.y(mark) + 4, number(mark), "faint", "end")
        for mark in marks
    )


def scale_x(box: Box, marks: Sequence[tuple[float, str]]) -> str:
    """Tick marks below the chart, with their labels."""
    floor = box.top + box.height
    return "".join(
        rule(box.x(value), floor, box.x(value), floor + 4, "axis")
        + text(box.x(value), floor + 17, label, "faint", "middle")
        for value, label in marks
    )


def drawing(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    """A complete SVG document, readable on a light or a dark page."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{escape(title)}"><style>{STYLE}</style>'
        f'<rect class="panel" width="{width}" height="{height}" rx="8"/>{"".join(parts)}</svg>'
    )


def _pixels(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
