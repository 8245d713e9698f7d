"""Helpers of the benchmarks: flags, texts, environments, measured processes, tables and JSON."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from tasks.local.endpoint_control import Endpoint
from tests.prefectserver import process

DEPLOYMENT, KEY = "gpt-4o-mini", "bench"
_SENTENCE = "The quick brown fox jumps over the lazy dog near the river bank. "
_ROW_GROUP_ROWS = 5_000
_WIDTH = 120


def flags(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the flags of all benchmarks."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser


def add_point(parser: argparse.ArgumentParser, latency_ms: float, sigma: float, window: int) -> None:
    """Add flags for the endpoint's latency, the number of requests in flight, and the number of rounds."""
    parser.add_argument("--latency-ms", type=float, default=latency_ms, help="the median when sigma is set")
    parser.add_argument(
        "--sigma", type=float, default=sigma, help="spread of a lognormal latency; 0 keeps it fixed"
    )
    parser.add_argument("--max-concurrent", type=int, default=window)
    parser.add_argument("--rounds", type=int, default=3)


def peak_mb() -> float:
    """Peak resident memory of this process; ``ru_maxrss`` would start with the memory of its parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def text(row: int, size_bytes: int = 2000) -> str:
    """A text of about this size, unique to the row."""
    return f"Row {row}. {_SENTENCE * (size_bytes // len(_SENTENCE))}"


def write_source(folder: Path, sizes: Sequence[int]) -> None:
    """Write one partition for each size (number of rows); all texts are different."""
    folder.mkdir(parents=True)
    first = 0
    for number, size in enumerate(sizes):
        table = pa.table({"body": [text(row) for row in range(first, first + size)]})
        pq.write_table(table, folder / f"part-{number:05}.parquet", row_group_size=_ROW_GROUP_ROWS)
        first += size


def variables(endpoint: Endpoint, home: Path | str | None = None) -> dict[str, str]:
    """Environment variables that connect a run to the endpoint and set Prefect's folder and options."""
    return {
        "AZURE_OPENAI_ENDPOINT": endpoint.url,
        "AZURE_OPENAI_API_KEY": KEY,
        "AZURE_OPENAI_DEPLOYMENT": DEPLOYMENT,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "DO_NOT_TRACK": "1",
    } | ({"PREFECT_HOME": str(home)} if home else {})


def environment(endpoint: Endpoint, home: Path | str) -> dict[str, str]:
    """The environment of a run that starts its own Prefect server."""
    kept = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    return kept | variables(endpoint, home)


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that ended with exit code 0.

    Attributes:
        began_s: Time of its start, on the monotonic clock that all processes of a machine share.
        seconds: Seconds from start to end.
        cpu_s: User and system time of the process and its child processes: its own Prefect server is
            included, the endpoint is not.
        output: Its output.
    """

    began_s: float
    seconds: float
    cpu_s: float
    output: str


def measured(*command: str, env: Mapping[str, str] | None = None) -> Ended:
    """Run a program and measure it; exits if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        log, began_s = Path(folder, "log"), time.monotonic()
        with process(*command, env=dict(env) if env else None, log=log) as started:
            _, status, usage = os.wait4(started.pid, 0)
            seconds = time.monotonic() - began_s
            started.returncode = os.waitstatus_to_exitcode(status)
        output = log.read_text()
    if started.returncode:
        message = f"{' '.join(command)}: exit code {started.returncode}\n{output}"
        raise SystemExit(message)
    return Ended(began_s, seconds, usage.ru_utime + usage.ru_stime, output)


def run_module(module: str, *arguments: str, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run a module of this project; returns the JSON in the last line of its output."""
    command = [sys.executable, "-m", module, *arguments]
    ended = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True, text=True)
    result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return result


def note(figure: object) -> None:
    """Print a figure to stderr at once, since a long benchmark may be interrupted."""
    print(figure, file=sys.stderr, flush=True)


def median(figures: Iterable[Mapping[str, Any]], name: str, **where: object) -> float:
    """The median of one value over the figures whose other values match; NaN without any."""
    values = [
        figure[name]
        for figure in figures
        if figure[name] is not None and all(figure[key] == value for key, value in where.items())
    ]
    return statistics.median(values) if values else float("nan")


def print_table(
    title: str, rows: Sequence[Mapping[str, str]], figures: object, json_path: Path | None
) -> None:
    """Print a table with the columns of its first row; write the figures to a file if one is given."""
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*row.values())
    # In a file rich would use 80 columns and cut words.
    Console(width=None if sys.stdout.isatty() else _WIDTH).print(table)
    if json_path:
        json_path.write_text(json.dumps(figures, indent=1))
