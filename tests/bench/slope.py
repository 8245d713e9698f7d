"""What one row more costs, through the command line; rows per second from its start to the last partition.

    python -m tests.bench.slope --latency-ms 50 --max-concurrent 64
    python -m tests.bench.slope --latency-ms 500 --max-concurrent 256

CPU is user and system time of `python -m flows run` and of its own Prefect server, not of the endpoint.
The slope between two sizes leaves out what starting costs; it is worked out within a round. Rows/s is that
of the larger size, from the start of the process to the rename of the last published partition. The recipe
runs beside them to tell what the machine is worth today; the best peer's rate, measured elsewhere, is scaled
by it. `direct` is the command line with `--no-prefect`, which starts sooner.
"""

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tests.bench.measuring import add_point, flags, median, tell, write_source
from tests.bench.ways import DIRECT, PRODUCT, scene

# Rows/s of saturate, the fastest program of this kind that was found, from its start to written Parquet, and
# of the recipe on the same machine; by latency in milliseconds and requests in flight.
_BEST_PEER = {(50.0, 64): (828.0, 110.0), (500.0, 256): (442.0, 125.0)}

Figures = Sequence[dict[str, Any]]


def main() -> None:
    """Measure both sizes in turn, then tell."""
    parser = flags(__doc__)
    add_point(parser, latency_ms=50.0, sigma=0.0, window=64)
    parser.add_argument("--rows", type=int, nargs=2, default=[5_000, 25_000], metavar=("SMALL", "LARGE"))
    parser.add_argument("--recipe-rows", type=int, default=2_000, help="0 leaves the recipe out")
    options = parser.parse_args()
    window, ways = options.max_concurrent, (PRODUCT, DIRECT)
    runs = [(way, rows) for way in ways for rows in options.rows]
    runs += [("recipe", options.recipe_rows)] if options.recipe_rows else []
    with scene(options.latency_ms, options.sigma) as place:
        for rows in {rows for _, rows in runs}:
            write_source(place.folder / str(rows), [rows])
        figures = [
            {"round": number} | asdict(place.run(way, place.folder / str(rows), rows, window, number))
            for number in range(options.rounds)
            for way, rows in runs
        ]
    peer = _peer(figures, options.latency_ms, window)
    title = f"{options.latency_ms:g} ms, sigma {options.sigma:g}, {window} in flight"
    rows = [_row(figures, way, options.rows, peer) for way in ways]
    tell(title, rows, figures, options.json)


def _row(figures: Figures, way: str, sizes: tuple[int, int], peer: float) -> dict[str, str]:
    small, large = sizes
    slopes = [
        1000 * (_cpu_s(figures, way, large, number) - _cpu_s(figures, way, small, number)) / (large - small)
        for number in {figure["round"] for figure in figures}
    ]
    rate = large / median(figures, "published_s", way=way, rows=large)
    return {
        "way": way,
        "CPU s per 1,000 rows more": f"{statistics.median(slopes):.2f}",
        f"CPU s, {small:,} rows": f"{median(figures, 'cpu_s', way=way, rows=small):.1f}",
        f"CPU s, {large:,} rows": f"{median(figures, 'cpu_s', way=way, rows=large):.1f}",
        f"rows/s from start to published, {large:,} rows": f"{rate:.0f}",
        "recipe's rows/s": f"{median(figures, 'rows_per_s', way='recipe'):.0f}",
        "best peer's, scaled": f"{peer:.0f}",
        "of the best peer's": f"{rate / peer:.2f}",
    }


def _cpu_s(figures: Figures, way: str, rows: int, number: int) -> float:
    return median(figures, "cpu_s", way=way, rows=rows, round=number)


def _peer(figures: Figures, latency_ms: float, window: int) -> float:
    """What the best peer would reach on this machine today; NaN where nobody knows."""
    peer, recipe = _BEST_PEER.get((latency_ms, window), (float("nan"), 1.0))
    return peer * median(figures, "rows_per_s", way="recipe") / recipe


if __name__ == "__main__":
    main()
