"""Thousands of tiny partitions on a local Prefect server: does it stay responsive, what does it cost.

    python -m tests.bench.many_partitions --partitions 2000 --max-tasks 500

Starts a server of its own, runs the flow in a process, and asks the server's API for the run and its task
runs, as its page does, four times a second. The same partitions through the bare partition code, without
Prefect, show what Prefect costs. Exits with 1 when the run failed or 95% of the answers took longer than a
second.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.local.endpoint_config import EndpointConfig
from tasks.local.endpoint_process import spawn
from tests.bench.measuring import flags, print_table, run_module, variables
from tests.prefectserver import PrefectServer, free_port

_ASK_EVERY_S = 0.25
_RESPONSIVE_S = 1.0


def main() -> int:
    """Measure, then print."""
    parser = flags(__doc__)
    parser.add_argument("--partitions", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=5)
    parser.add_argument("--max-tasks", type=int, default=500)
    parser.add_argument("--open-partitions", type=int, default=8)
    parser.add_argument("--bare", nargs=2, metavar=("SOURCE", "DESTINATION"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        _bare(options.bare[0], options.bare[1], options.open_partitions)
        return 0
    reported = _measure(options)
    rows = [{"": name.replace("_", " "), "value": str(value)} for name, value in reported.items()]
    print_table("tiny partitions on a Prefect server", rows, reported, options.json)
    return 0 if reported["completed"] and reported["answers_p95_s"] < _RESPONSIVE_S else 1


def _measure(options: argparse.Namespace) -> dict[str, float]:
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        spawn(EndpointConfig()) as endpoint,
    ):
        _write(Path(folder, "in"), options.partitions, options.rows)
        server = PrefectServer(free_port(), Path(folder, "prefect"))
        env = server.env | variables(endpoint)
        shared = ["--max-concurrent", "64", "--max-open-partitions", str(options.open_partitions)]
        run = ["-m", "flows", "run", f"{folder}/in", f"{folder}/out", "--text-column", "body", *shared]
        bare = ("tests.bench.many_partitions", "--bare", f"{folder}/in", f"{folder}/bare")
        bare_s = run_module(*bare, env=env)["seconds"]
        with server.running(), _Asking(server.url) as asking:
            _end([*run, "--max-tasks", str(options.max_tasks)], env)
        reports = [json.loads(path.read_text()) for path in Path(folder, "out/_reports").glob("*.json")]
        requests = endpoint.stats().requests
    seconds = reports[0]["seconds"]
    return {
        "partitions": options.partitions,
        "max_tasks": options.max_tasks,
        "completed": len(reports) == 1 and reports[0]["succeeded"],
        "requests": requests,
        "run_s": round(seconds, 1),
        "bare_s": round(bare_s, 1),
        "overhead_ms_per_partition": round(1000 * (seconds - bare_s) / options.partitions, 1),
        **asking.figures,
    }


def _end(arguments: list[str], env: dict[str, str]) -> str:
    ended = subprocess.run(
        [sys.executable, *arguments], env=env, stdout=subprocess.PIPE, text=True, check=False
    )
    return ended.stdout


def _write(folder: Path, partitions: int, rows: int) -> None:
    folder.mkdir()
    for number in range(partitions):
        texts = [f"This is row {row} of partition {number}. Some more words follow." for row in range(rows)]
        pq.write_table(pa.table({"id": range(rows), "body": texts}), folder / f"part-{number:05}.parquet")


class _Asking:
    """Asks a server what its page asks, and keeps how long each answer took."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ended = threading.Event()
        self._took_s: list[float] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_ASK_EVERY_S):
            for path in ("flow_runs/filter", "task_runs/filter"):
                began_s = time.monotonic()
                request = urllib.request.Request(  # noqa: S310 - http on loopback
                    f"{self._url}/{path}", b'{"limit": 200}', {"content-type": "application/json"}
                )
                with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310 - http on loopback
                    reply.read()
                self._took_s.append(time.monotonic() - began_s)

    @property
    def figures(self) -> dict[str, float]:
        """How long answers took."""
        took_s = sorted(self._took_s)
        parts = {"p50": 0.5, "p95": 0.95, "max": 1.0}
        return {"answers": len(took_s)} | {
            f"answers_{name}_s": round(took_s[min(int(part * len(took_s)), len(took_s) - 1)], 3)
            for name, part in parts.items()
        }


def _bare(source: str, destination: str, open_partitions: int) -> None:
    """The same partitions without Prefect, as many at once."""
    from tasks.core.ledger.ledger import Ledger  # noqa: PLC0415
    from tasks.core.options import LimitOptions  # noqa: PLC0415
    from tasks.core.partition import summarize_partition  # noqa: PLC0415
    from tasks.core.planning.preflight import preflight  # noqa: PLC0415
    from tasks.core.rows.gateway_factory import open_gateway  # noqa: PLC0415
    from tasks.core.settings import Settings  # noqa: PLC0415
    from tasks.core.storage.discovery import discover  # noqa: PLC0415 - the measured process alone
    from tests.core_runs import job_of  # noqa: PLC0415

    job, settings = job_of(source, destination), Settings.from_environment()
    with (
        Ledger(job.destination, fingerprint=job.request.fingerprint) as ledger,
        ThreadPoolExecutor(open_partitions) as pool,
        open_gateway(settings, job.request, LimitOptions(max_concurrent=64)) as gateway,
    ):
        began_s = time.monotonic()
        plan = preflight(discover(job.pattern), job)
        for one in [pool.submit(summarize_partition, p, job, gateway, ledger) for p in plan.partitions]:
            one.result()
        seconds = time.monotonic() - began_s
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    sys.exit(main())
