"""Rows per second and CPU per 1,000 rows, side by side on the same rows, without Prefect.

    python -m tests.bench.throughput --rows 3000 --latency-ms 50 --max-concurrent 64

Ways compared, each in a process of its own, in turn, several rounds, against one endpoint:

- recipe, bare: those of `ways.py`
- product: this product from opened to published partition

Imports are left out. `rates` compares the whole command line. Prints medians and their ratio to the recipe.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tasks.local.endpoint_config import EndpointConfig
from tasks.local.endpoint_process import spawn
from tests.bench.measuring import (
    DEPLOYMENT,
    KEY,
    add_point,
    flags,
    median,
    note,
    print_table,
    run_module,
    text,
    write_source,
)
from tests.bench.ways import bare, recipe


def peer(run: Callable[[str, list[str], int], None]) -> Callable[[str, int, int], None]:
    """A way that is not ours, with texts from memory."""
    return lambda url, rows, window: run(url, [text(row) for row in range(rows)], window)


def product(url: str, rows: int, window: int) -> None:
    """This product, Parquet in and out, without Prefect around it."""
    from tasks.core.job import prepare  # noqa: PLC0415
    from tasks.core.ledger.ledger import Ledger  # noqa: PLC0415
    from tasks.core.options import LimitOptions, ModelOptions, OutputOptions  # noqa: PLC0415
    from tasks.core.partition import summarize_partition  # noqa: PLC0415
    from tasks.core.rows.gateway_factory import open_gateway  # noqa: PLC0415
    from tasks.core.settings import Settings  # noqa: PLC0415
    from tasks.core.storage.discovery import discover  # noqa: PLC0415 - each process loads what it measures

    settings = Settings(
        azure_openai_endpoint=url, azure_openai_api_key=KEY, azure_openai_deployment=DEPLOYMENT
    )
    with TemporaryDirectory() as folder:
        write_source(Path(folder, "in"), [rows])
        job = prepare(
            f"{folder}/in", f"{folder}/out", "body", prompt="Be brief.",
            model=ModelOptions(), output=OutputOptions(), settings=settings,
        )  # fmt: skip
        [partition] = discover(job.pattern).partitions
        limits = LimitOptions(max_concurrent=window)
        with (
            Ledger(job.destination, fingerprint=job.request.fingerprint) as ledger,
            open_gateway(settings, job.request, limits) as gateway,
        ):
            summarize_partition(partition, job, gateway, ledger)


WAYS: dict[str, Callable[[str, int, int], None]] = {
    "recipe": peer(recipe),
    "product": product,
    "bare": peer(bare),
}


def main() -> None:
    """Measure every way in turn, then print."""
    parser = flags(__doc__)
    add_point(parser, latency_ms=50.0, sigma=0.0, window=64)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "URL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        way, url = options.measure
        _measure(way, url, options.rows, options.max_concurrent)
        return
    figures, point = [], ("--rows", f"{options.rows}", "--max-concurrent", f"{options.max_concurrent}")
    with spawn(EndpointConfig(latency_ms=options.latency_ms, sigma=options.sigma)) as endpoint:
        for number in range(options.rounds):
            for way in WAYS:
                reported = run_module("tests.bench.throughput", "--measure", way, endpoint.url, *point)
                figures.append({"round": number, "way": way} | reported)
                note(figures[-1])
    title = f"{options.rows:,} rows, {options.latency_ms:g} ms, sigma {options.sigma:g}, "
    rows = [_row(figures, way) for way in WAYS]
    print_table(f"{title}{options.max_concurrent} in flight", rows, figures, options.json)


def _measure(name: str, url: str, rows: int, window: int) -> None:
    way = WAYS[name]
    # Once for the imports, which are not what is compared.
    way(url, 1, 1)
    before, began_s = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    way(url, rows, window)
    seconds, after = time.monotonic() - began_s, resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"rows_per_s": rows / seconds, "cpu_s_per_1000": cpu_s / rows * 1000}))


def _row(figures: list[dict[str, Any]], way: str) -> dict[str, str]:
    rate, cpu_s = (median(figures, name, way=way) for name in ("rows_per_s", "cpu_s_per_1000"))
    return {
        "way": way,
        "rows/s": f"{rate:.0f}",
        "times the recipe": f"{rate / median(figures, 'rows_per_s', way='recipe'):.1f}",
        "CPU s per 1,000 rows": f"{cpu_s:.2f}",
        "of the recipe's": f"{cpu_s / median(figures, 'cpu_s_per_1000', way='recipe'):.2f}",
    }


if __name__ == "__main__":
    main()
