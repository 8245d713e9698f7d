"""Peak memory of a run against the number of rows: one partition, an endpoint without latency.

    python -m tests.bench.memory --rows 10000 100000 1000000
    python -m tests.bench.memory --rows 1048576 --text-bytes 300 --row-group-rows 20000 1048576

Each size runs in a process of its own, through the flow, and prints the peak resident memory of that process
(Prefect's server and the endpoint are other processes).
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.local.endpoint_config import EndpointConfig
from tasks.local.endpoint_process import spawn
from tests.bench.measuring import environment, flags, peak_mb, print_table, run_module

_SENTENCE = "The quick brown fox jumps over the lazy dog near the river bank. "


def main() -> None:
    """Measure every size, then print."""
    parser = flags(__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--text-bytes", type=int, default=500)
    parser.add_argument("--row-group-rows", type=int, nargs="+", default=[20_000])
    parser.add_argument("--max-concurrent", type=int, default=64)
    parser.add_argument("--measure", nargs=2, metavar=("SOURCE", "DESTINATION"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        _measure(options)
        return
    figures = [
        _in_a_process(rows, row_group_rows, options)
        for rows in options.rows
        for row_group_rows in options.row_group_rows
    ]
    heads = {
        "rows": "rows",
        "rows a row group": "row_group_rows",
        "peak MB": "peak_mb",
        "seconds": "seconds",
        "rows/s": "rows_per_s",
    }
    rows = [{head: f"{figure[name]:,.0f}" for head, name in heads.items()} for figure in figures]
    print_table(f"{options.max_concurrent} in flight", rows, figures, options.json)


def _in_a_process(rows: int, row_group_rows: int, options: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder, spawn(EndpointConfig()) as endpoint:
        source = Path(folder, "source")
        source.mkdir()
        _write(source / "one.parquet", rows, row_group_rows, options.text_bytes)
        command = ["--measure", str(source), f"{folder}/destination"]
        command += ["--max-concurrent", str(options.max_concurrent)]
        figure = run_module("tests.bench.memory", *command, env=environment(endpoint, f"{folder}/prefect"))
        if endpoint.stats().requests != rows:
            message = f"{endpoint.stats().requests} requests for {rows} rows"
            raise SystemExit(message)
        return figure | {"row_group_rows": row_group_rows}


def _write(path: Path, rows: int, row_group_rows: int, text_bytes: int) -> None:
    text = (_SENTENCE * (text_bytes // len(_SENTENCE) + 1))[:text_bytes]
    schema = pa.schema([("id", pa.int64()), ("body", pa.string())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, rows, row_group_rows):
            ids = range(start, min(start + row_group_rows, rows))
            table = pa.table([pa.array(ids), pa.array([f"Row {i}. {text}" for i in ids])], schema)
            writer.write_table(table, row_group_size=row_group_rows)


def _measure(options: argparse.Namespace) -> None:
    from flows.summarize import summarize_parquet  # noqa: PLC0415 - the measured process alone loads Prefect
    from tasks.core.options import LimitOptions  # noqa: PLC0415

    source, destination = options.measure
    began_s = time.monotonic()
    report = summarize_parquet(
        source,
        destination,
        "body",
        limits=LimitOptions(max_concurrent=options.max_concurrent),
    )
    seconds = time.monotonic() - began_s
    rows = report.tally.ok
    print(json.dumps({"rows": rows, "peak_mb": peak_mb(), "seconds": seconds, "rows_per_s": rows / seconds}))


if __name__ == "__main__":
    main()
