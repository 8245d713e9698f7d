"""Rows with equal text next to each other, and the same rows shuffled, through the command line.

    python -m tests.bench.equal_rows --texts 100 --copies 64 --latency-ms 500

Each order is a Parquet file of its own and a run of its own, in turn, against one endpoint. Seconds count
from the first request's arrival at the endpoint to its last reply. Fails if a text is requested twice.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.bench.measuring import add_point, flags, measured, median, note, print_table, text
from tests.bench.ways import BenchSetup, bench_setup
from tests.prefectserver import run_of


def main() -> None:
    """Measure both orders in turn."""
    parser = flags(__doc__)
    add_point(parser, latency_ms=500.0, sigma=0.0, window=64)
    parser.add_argument("--texts", type=int, default=100)
    parser.add_argument("--copies", type=int, default=64, help="rows of each text")
    options = parser.parse_args()
    in_order = [text(number) for number in range(options.texts) for _ in range(options.copies)]
    orders = {"sorted": in_order, "shuffled": random.Random(7).sample(in_order, len(in_order))}
    figures = []
    with bench_setup(options.latency_ms, options.sigma) as place:
        for number in range(options.rounds):
            for order, rows in orders.items():
                figures.append({"round": number, "order": order} | _run(place, rows, options.max_concurrent))
                note(json.dumps(figures[-1]))
    title = f"{options.texts} texts, {options.copies} copies of each, {options.latency_ms:g} ms, "
    table = [_row(figures, order) for order in orders]
    print_table(f"{title}{options.max_concurrent} in flight", table, figures, options.json)


def _run(place: BenchSetup, rows: Sequence[str], window: int) -> dict[str, Any]:
    place.endpoint.reset()
    with TemporaryDirectory(dir=place.folder) as folder:
        source = Path(folder, "in")
        source.mkdir()
        pq.write_table(pa.table({"body": rows}), source / "part-00000.parquet")
        command = run_of(
            f"{source}", f"{folder}/out", "--prompt", "Be brief.", "--max-concurrent", f"{window}"
        )
        ended = measured(*command, env=place.environment)
    stats = place.endpoint.stats()
    if not stats.requests == stats.paid == stats.rows == len(set(rows)):
        message = f"{len(set(rows))} texts, but the endpoint counted {stats}\n{ended.output}"
        raise SystemExit(message)
    assert stats.first_request_s is not None
    assert stats.last_reply_s is not None
    return {"seconds": stats.last_reply_s - stats.first_request_s, "in_flight": stats.peak_in_flight}


def _row(figures: Sequence[dict[str, Any]], order: str) -> dict[str, str]:
    seconds = median(figures, "seconds", order=order)
    return {
        "rows": order,
        "s": f"{seconds:.2f}",
        "times shuffled": f"{seconds / median(figures, 'seconds', order='shuffled'):.2f}",
        "most in flight": f"{median(figures, 'in_flight', order=order):.0f}",
    }


if __name__ == "__main__":
    main()
