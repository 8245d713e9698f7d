"""Even, uneven and tiny partitions: how full the window is kept, through the command line.

    python -m tests.bench.shapes --latency-ms 500 --sigma 0.6 --max-concurrent 64

Rows per second as a share of the ideal, requests in flight by the mean latency (of a lognormal, the median
times exp(sigma^2 / 2)), and of the bare pool on the same rows in the same round. Both are printed twice: from
the first request to the last reply, whose tail no pool can fill, and to the last request, without the first
window's rows, where a perfect pool reaches the ideal. The ways are those of `ways.py`.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tests.bench.measuring import add_point, flags, median, print_table, write_source
from tests.bench.rates import ratio
from tests.bench.ways import PRODUCT, bench_setup

_TINY_ROWS = 20


def main() -> None:
    """Measure every shape in every way, in turn, then print."""
    parser = flags(__doc__)
    add_point(parser, latency_ms=500.0, sigma=0.6, window=64)
    parser.add_argument(
        "--rows", type=int, default=5_000, help="of the even and the uneven partitions together"
    )
    parser.add_argument("--partitions", type=int, default=20, help="even, and uneven ones")
    parser.add_argument("--tiny", type=int, default=100, help=f"partitions of {_TINY_ROWS} rows")
    options = parser.parse_args()
    shapes, ways = _shapes(options.rows, options.partitions, options.tiny), [PRODUCT, "bare"]
    figures = []
    with bench_setup(options.latency_ms, options.sigma) as place:
        for name, sizes in shapes.items():
            write_source(place.folder / name, sizes)
        for number in range(options.rounds):
            for name, sizes in shapes.items():
                for way in ways:
                    figure = place.run(way, place.folder / name, sum(sizes), options.max_concurrent, number)
                    figures.append({"round": number, "shape": name} | asdict(figure))
    ideal = options.max_concurrent / (options.latency_ms / 1000 * math.exp(options.sigma**2 / 2))
    title = f"{options.latency_ms:g} ms, sigma {options.sigma:g}, {options.max_concurrent} in flight, "
    rows = [_row(figures, name, way, ideal) for name in shapes for way in ways]
    print_table(f"{title}ideal {ideal:.0f} rows/s", rows, figures, options.json)


def _shapes(rows: int, partitions: int, tiny: int) -> dict[str, list[int]]:
    """Partitions' sizes by the shape's name; the n-th largest uneven one has 1/n of the largest's rows."""
    scale = rows / sum(1 / number for number in range(1, partitions + 1))
    uneven = [max(1, round(scale / number)) for number in range(1, partitions + 1)]
    random.Random(7).shuffle(uneven)
    return {
        f"{partitions} even": [rows // partitions] * partitions,
        f"{partitions} uneven, {min(uneven)} to {max(uneven)} rows": uneven,
        f"{tiny} of {_TINY_ROWS} rows": [_TINY_ROWS] * tiny,
    }


def _row(figures: Sequence[dict[str, Any]], shape: str, way: str, ideal: float) -> dict[str, str]:
    rate = median(figures, "rows_per_s", shape=shape, way=way)
    steady = median(figures, "steady_per_s", shape=shape, way=way)
    return {
        "partitions": shape,
        "way": way,
        "rows/s": f"{rate:.0f}",
        "of ideal": f"{rate / ideal:.3f}",
        "of bare": f"{ratio(figures, 'rows_per_s', way, 'bare', shape=shape):.3f}",
        "of ideal, to the last request": f"{steady / ideal:.3f}",
        "of bare, to the last request": f"{ratio(figures, 'steady_per_s', way, 'bare', shape=shape):.3f}",
    }


if __name__ == "__main__":
    main()
