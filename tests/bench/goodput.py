"""Goodput and wasted requests under a quota, known and unknown.

    python -m tests.bench.goodput --seconds 90

Each case runs the command line (`python -m flows run`) on a partition against a local endpoint with a quota,
and reads the endpoint's counters: goodput is what was let through between the first and the last, as a part
of what flowed into the bucket in that time (more than 1: what it held at the start was used); wasted is the
part of all requests that was answered 429.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.local.endpoint_config import EndpointConfig
from tasks.local.endpoint_control import RemoteEndpoint
from tasks.local.endpoint_process import spawn
from tests.bench.measuring import environment, flags, measured, median, print_table, text, write_source
from tests.prefectserver import run_of

_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Case:
    """A quota, and what the run knows of it."""

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

    def __init__(self, endpoint: RemoteEndpoint) -> None:
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
        write_source(Path(folder, "in"), [rows])
        reported = ("--prompt", "Be brief.", *case.flags)
        watch = Watch(endpoint)
        with watch.watching():
            command = run_of(f"{folder}/in", f"{folder}/out", *reported)
            measured(*command, env=environment(endpoint, f"{folder}/prefect"))
        stats = endpoint.stats()
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
    """Run every case in turn, then print."""
    parser = flags(__doc__)
    parser.add_argument("--seconds", type=float, default=90.0, help="of quota, per case")
    parser.add_argument("--latency-ms", type=float, default=500.0)
    parser.add_argument("--sigma", type=float, default=0.6, help="spread of a lognormal latency")
    parser.add_argument("--window-s", type=float, default=10.0, help="seconds of quota the bucket holds")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    # As the endpoint counts: a token for every four bytes of prompt and text, and the longest reply.
    tokens_a_row = -(-len("Be brief.") // 4) + -(-len(text(1000)) // 4) + 256
    figures = [run(case, options) for _ in range(options.rounds) for case in cases(tokens_a_row)]
    rows = [_row(figures, name) for name in dict.fromkeys(figure["case"] for figure in figures)]
    print_table(f"{options.seconds:g} s of quota", rows, figures, options.json)


def _row(figures: list[dict[str, Any]], case: str) -> dict[str, str]:
    return {
        "quota": case,
        "goodput, of the bucket's": f"{median(figures, 'goodput', case=case):.3f}",
        "answered 429, of all requests": f"{median(figures, 'wasted', case=case):.2%}",
    }


if __name__ == "__main__":
    main()
