"""What one row more costs, through the command line; rows per second from its start to the last partition.

    python -m tests.bench.slope --latency-ms 50 --max-concurrent 64
    python -m tests.bench.slope --latency-ms 500 --max-concurrent 256

CPU is user and system time of `python -m flows run` and of its own Prefect server, not of the endpoint.
The slope between two sizes leaves out what starting costs; it is worked out within a round. Rows/s is that
of the larger size, from the start of the process to the rename of the last published partition. `direct` is
the command line with `--no-prefect`, which starts sooner.

The best peer's rate was measured elsewhere; the recipe, which runs here too, shows how fast this machine is
beside that one. It does so at the point that is measured, and at 50 ms with 64 in flight: there the recipe is
as fast as the processor, while at 500 ms with 256 in flight one run of it may take twice as long as the next.
"""

import argparse
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tests.bench.measuring import add_point, flags, median, print_table, write_source
from tests.bench.ways import DIRECT, PRODUCT, BenchSetup, bench_setup

# Rows/s of saturate, the fastest program of this kind that was found, from its start to written Parquet, and
# of the recipe on the same machine; by latency in milliseconds and requests in flight.
_BEST_PEER = {(50.0, 64): (828.0, 110.0), (500.0, 256): (442.0, 125.0)}

Figures = Sequence[dict[str, Any]]


def main() -> None:
    """Measure both sizes in turn, then print."""
    parser = flags(__doc__)
    add_point(parser, latency_ms=50.0, sigma=0.0, window=64)
    parser.add_argument("--rows", type=int, nargs=2, default=[5_000, 25_000], metavar=("SMALL", "LARGE"))
    parser.add_argument("--recipe-rows", type=int, default=2_000, help="0 leaves the recipe out")
    options = parser.parse_args()
    with bench_setup(options.latency_ms, options.sigma) as place:
        figures = _measure(place, options)
    title = f"{options.latency_ms:g} ms, sigma {options.sigma:g}, {options.max_concurrent} in flight"
    point = (options.latency_ms, options.max_concurrent)
    print_table(
        title, [_row(figures, way, options.rows, point) for way in (PRODUCT, DIRECT)], figures, options.json
    )


def _measure(place: BenchSetup, options: argparse.Namespace) -> list[dict[str, Any]]:
    here, yardstick = (options.latency_ms, options.sigma, options.max_concurrent), (50.0, 0.0, 64)
    runs = [(way, way, rows, here) for way in (PRODUCT, DIRECT) for rows in options.rows]
    if rows := options.recipe_rows:
        runs += [("recipe", "recipe", rows, here), ("yardstick", "recipe", rows, yardstick)]
    for size in {size for _, _, size, _ in runs}:
        write_source(place.folder / str(size), [size])
    figures = []
    for number in range(options.rounds):
        for name, way, size, (latency_ms, sigma, window) in runs:
            place.endpoint.configure(latency_ms=latency_ms, sigma=sigma)
            figure = place.run(way, place.folder / str(size), size, window, number)
            figures.append({"round": number} | asdict(figure) | {"way": name})
    return figures


def _row(figures: Figures, way: str, sizes: tuple[int, int], point: tuple[float, int]) -> dict[str, str]:
    small, large = sizes
    slopes = [
        1000 * (_cpu_s(figures, way, large, number) - _cpu_s(figures, way, small, number)) / (large - small)
        for number in {figure["round"] for figure in figures}
    ]
    rate = large / median(figures, "published_s", way=way, rows=large)
    peer, recipe = _BEST_PEER.get(point, (math.nan, math.nan))
    return {
        "way": way,
        "CPU s per 1,000 rows more": f"{statistics.median(slopes):.2f}",
        f"CPU s, {small:,} rows": f"{median(figures, 'cpu_s', way=way, rows=small):.1f}",
        f"CPU s, {large:,} rows": f"{median(figures, 'cpu_s', way=way, rows=large):.1f}",
        f"rows/s from start to published, {large:,} rows": f"{rate:.0f}",
        "of the best peer's, scaled here": _of(rate, peer, figures, "recipe", recipe),
        "of the best peer's, scaled at 50 ms, 64": _of(
            rate, peer, figures, "yardstick", _BEST_PEER[50.0, 64][1]
        ),
    }


def _of(rate: float, peer: float, figures: Figures, name: str, elsewhere: float) -> str:
    """A rate beside what the peer would reach on this machine; what the recipe reached here and elsewhere."""
    here = [figure["rows_per_s"] for figure in figures if figure["way"] == name]
    if not here:
        return "-"
    scaled = peer * statistics.median(here) / elsewhere
    return f"{rate / scaled:.2f} (recipe {min(here):.0f} to {max(here):.0f}, there {elsewhere:.0f})"


def _cpu_s(figures: Figures, way: str, rows: int, number: int) -> float:
    return median(figures, "cpu_s", way=way, rows=rows, round=number)


if __name__ == "__main__":
    main()
