"""Rows per second from the first request to the last, through the command line, and others on the same rows.

    python -m tests.bench.rates --rows 10000 --latency-ms 500 --sigma 0.6 --max-concurrent 256

The ways are those of `ways.py`; they take turns, several rounds, against one endpoint. Rows/s counts from the
first request's arrival at the endpoint to its last reply, in every way; "to the last request" leaves out the
tail and the first window's rows. CPU is that of the process and what it started, its start included; `slope`
measures what one row more costs. Prints medians of the rounds' figures, and of the ratios within a round.
"""

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tests.bench.measuring import add_point, flags, median, print_table, write_source
from tests.bench.ways import PRODUCT, bench_setup

Figures = Sequence[dict[str, Any]]


def main() -> None:
    """Measure every way in turn, then print."""
    parser = flags(__doc__)
    add_point(parser, latency_ms=500.0, sigma=0.6, window=64)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--recipe", action=argparse.BooleanOptionalAction, default=True, help="it is slow")
    options = parser.parse_args()
    ways = [*(["recipe"] if options.recipe else []), PRODUCT, "bare"]
    with bench_setup(options.latency_ms, options.sigma) as place:
        source, figures = place.folder / "in", []
        write_source(source, [options.rows])
        for number in range(options.rounds):
            for way in ways:
                figure = place.run(way, source, options.rows, options.max_concurrent, number)
                figures.append({"round": number} | asdict(figure))
    title = f"{options.rows:,} rows, {options.latency_ms:g} ms, sigma {options.sigma:g}, "
    print_table(
        f"{title}{options.max_concurrent} in flight",
        [_row(figures, way) for way in ways],
        figures,
        options.json,
    )


def _row(figures: Figures, way: str) -> dict[str, str]:
    cpu_s = median(figures, "cpu_s", way=way)
    return {
        "way": way,
        "rows/s": f"{median(figures, 'rows_per_s', way=way):.0f}",
        "of bare": f"{ratio(figures, 'rows_per_s', way, 'bare'):.3f}",
        "of bare, to the last request": f"{ratio(figures, 'steady_per_s', way, 'bare'):.3f}",
        "times the recipe": f"{ratio(figures, 'rows_per_s', way, 'recipe'):.1f}",
        "CPU s per 1,000 rows, with the start": f"{cpu_s / figures[0]['rows'] * 1000:.2f}",
        "first request, s": f"{median(figures, 'first_request_s', way=way):.1f}",
    }


def ratio(figures: Figures, name: str, way: str, other: str, **where: object) -> float:
    """The median over the rounds of one way's value by another's; NaN when there are none."""
    ratios = [
        median(figures, name, way=way, round=number, **where)
        / median(figures, name, way=other, round=number, **where)
        for number in {figure["round"] for figure in figures}
    ]
    return statistics.median(ratios)


if __name__ == "__main__":
    main()
