"""Goodput and wasted requests under a quota, known and unknown.

    python -m tests.bench.goodput --seconds 90

Each case runs the command line (`python -m flows run`) on a partition against a local endpoint with a quota,
and reads the endpoint's counters: goodput is what was let through between the first and the last, as a part
of what flowed into the bucket in that time (more than 1: what it held at the start was used); wasted is the
part of all requests that was answered 429. Prints one table and writes JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from tasks.local.config import EndpointConfig
from tasks.local.handle import RemoteHandle
from tasks.local.spawn import spawn

_SENTENCE = "The quick brown fox jumps over the lazy dog near the river bank. "
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Case:
    """A quota, and what the run is told of it."""

    name: str
    quota: dict[str, Any]
    flags: tuple[str, ...]
    per_s: float


def cases(tokens_a_row: float) -> list[Case]:
    """Each quota, unknown and given."""
    requests: dict[str, Any] = {"requests_per_minute": 1200.0}
    tokens: dict[str, Any] = {"tokens_per_minute": 40_000.0}
    token_rate = tokens["tokens_per_minute"] / 60 / tokens_a_row
    return [
        Case("1,200 requests/min, unknown", requests, (), 20.0),
        Case("1,200 requests/min, given", requests, ("--requests-per-minute", "1200"), 20.0),
        Case("40,000 tokens/min, unknown", tokens, (), token_rate),
        Case("40,000 tokens/min, given", tokens, ("--tokens-per-minute", "40000"), token_rate),
    ]


class Watch:
    """Notes how many requests were let through when, while a run goes on."""

    def __init__(self, endpoint: RemoteHandle) -> None:
        self.seen: list[tuple[float, int]] = []
        self._endpoint = endpoint
        self._ended = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at the endpoint's counters as long as the block lasts."""
        thread = threading.Thread(target=self._look)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _look(self) -> None:
        while not self._ended.wait(_LOOK_S):
            stats = self._endpoint.stats()
            passed = stats.requests - stats.requests_by_status.get(429, 0)
            self.seen.append((time.monotonic(), passed))

    def rate_per_s(self) -> float:
        """Requests let through per second, from the first to the last."""
        last = self.seen[-1][1]
        began_s, first = next(one for one in self.seen if one[1] > 0)
        ended_s = next(at_s for at_s, passed in self.seen if passed == last)
        return (last - first) / (ended_s - began_s)


def run(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Run one case; returns its figures."""
    rows = int(case.per_s * options.seconds)
    config = EndpointConfig(
        latency_ms=options.latency_ms, sigma=options.sigma, bucket_window_s=options.window_s, **case.quota
    )
    with spawn(config) as endpoint, tempfile.TemporaryDirectory() as folder:
        Path(folder, "in").mkdir()
        texts = [f"Row {number:06}. {_SENTENCE * 30}" for number in range(rows)]
        pq.write_table(pa.table({"body": texts}), f"{folder}/in/a.parquet")
        command = [
            sys.executable,
            "-m",
            "flows",
            "run",
            f"{folder}/in",
            f"{folder}/out",
            "--text-column",
            "body",
        ]
        command += ["--prompt", "Be brief.", "--client", options.client, *case.flags]
        environment = {
            **os.environ,
            "AZURE_OPENAI_ENDPOINT": endpoint.url,
            "AZURE_OPENAI_API_KEY": "bench",
            "AZURE_OPENAI_DEPLOYMENT": "gpt-4o-mini",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        }
        watch = Watch(endpoint)
        with watch.watching():
            ended = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        stats = endpoint.stats()
    if ended.returncode:
        sys.exit(f"{case.name}: exit code {ended.returncode}\n{ended.stderr}")
    refused = stats.requests_by_status.get(429, 0)
    return {
        "case": case.name,
        "rows": rows,
        "requests": stats.requests,
        "refused": refused,
        "wasted": refused / stats.requests,
        "goodput": watch.rate_per_s() / case.per_s,
    }


def main() -> None:
    """Run every case in turn, then tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=90.0, help="of quota, per case")
    parser.add_argument("--latency-ms", type=float, default=500.0)
    parser.add_argument("--sigma", type=float, default=0.6, help="spread of a lognormal latency")
    parser.add_argument("--window-s", type=float, default=10.0, help="seconds of quota the bucket holds")
    parser.add_argument("--client", default="llamaindex")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", default="goodput.json", help="where to write the figures")
    options = parser.parse_args()
    # As the endpoint counts: a token for every four bytes of prompt and text, and the longest reply.
    tokens_a_row = -(-len("Be brief.") // 4) + -(-len(f"Row 000000. {_SENTENCE * 30}") // 4) + 256
    figures = [run(case, options) for _ in range(options.rounds) for case in cases(tokens_a_row)]
    Path(options.json).write_text(json.dumps(figures, indent=1))
    Console().print(_table(figures))


def _table(figures: list[dict[str, Any]]) -> Table:
    table = Table("quota", "goodput, of the bucket's", "answered 429, of all requests")
    for name in dict.fromkeys(figure["case"] for figure in figures):
        runs = [figure for figure in figures if figure["case"] == name]
        goodput = statistics.median(figure["goodput"] for figure in runs)
        wasted = statistics.median(figure["wasted"] for figure in runs)
        table.add_row(name, f"{goodput:.3f}", f"{wasted:.2%}")
    return table


if __name__ == "__main__":
    main()
