"""Runs the local endpoint: in a thread of this process, or as a program (`python -m tasks.local.endpoint`).

The endpoint implements Azure OpenAI's chat completions protocol on loopback. When `serve` exits, its thread
has ended and all sockets are closed. `endpoint_process` runs the program as a child process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import textwrap
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Final

from tasks.local.counters import RecordedRequest, Stats
from tasks.local.endpoint_config import EndpointConfig, add_flags, from_flags
from tasks.local.endpoint_control import Endpoint, LocalEndpoint
from tasks.local.faults import KINDS
from tasks.local.http_server import EndpointServer

__all__ = ["Endpoint", "EndpointConfig", "RecordedRequest", "Stats", "main", "serve"]

LISTENING: Final = "listening on "

_DESCRIPTION: Final = """\
A server on 127.0.0.1 that implements Azure OpenAI's chat completions protocol and replies with
the first sentences of the text in the request. Set AZURE_OPENAI_ENDPOINT to the address it
prints; it accepts any deployment name, any api-version and, unless --api-key is given, any key."""

_EPILOG: Final = f"""\
A text can request its own fault: [[fault:KIND]] for every request, [[fault:KIND:times=2]] for
the first two, [[fault:rate-limit:times=1:retry-after-ms=300]] with this retry-after. --fault
and --fault-kind take the same syntax. Kinds:
{textwrap.indent(textwrap.fill(", ".join(sorted(KINDS)), 90, break_on_hyphens=False), "  ")}

While it runs: GET /stats, POST /reset, POST /configure with JSON such as
{{"requests_per_minute": 600}}.
Stops on Ctrl-C or SIGTERM and prints its counters."""


@contextlib.contextmanager
def serve(config: EndpointConfig | None = None) -> Iterator[LocalEndpoint]:
    """Run an endpoint in a daemon thread with its own event loop until the block ends.

    Args:
        config: Its settings; by default no latency, no quota, no faults.

    Yields:
        The endpoint; its counters stay readable after the block.

    Raises:
        OSError: The port is taken.
    """
    started: Future[tuple[LocalEndpoint, asyncio.Event]] = Future()
    thread = threading.Thread(
        target=_run_in_thread, args=(config or EndpointConfig(), started), name="local-endpoint", daemon=True
    )
    thread.start()
    try:
        handle, stop = started.result()
        try:
            yield handle
        finally:
            handle.loop.call_soon_threadsafe(stop.set)
    finally:
        thread.join()


def _run_in_thread(config: EndpointConfig, started: Future[tuple[LocalEndpoint, asyncio.Event]]) -> None:
    async def run() -> None:
        stop = asyncio.Event()
        async with EndpointServer(config) as server:
            handle = LocalEndpoint(server.url, server.replies, asyncio.get_running_loop())
            started.set_result((handle, stop))
            await stop.wait()

    try:
        asyncio.run(run())
    except BaseException as error:
        if started.done():
            raise
        started.set_exception(error)


async def _run_alone(config: EndpointConfig) -> Stats:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with EndpointServer(config) as server:
        _print(f"{LISTENING}{server.url}")
        await stop.wait()
    return server.replies.counters.snapshot()


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an endpoint until a signal stops it.

    Returns:
        0 after a signal, 2 for wrong settings or a port that is taken.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tasks.local.endpoint",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_flags(parser)
    try:
        config = from_flags(parser.parse_args(arguments))
        stats = asyncio.run(_run_alone(config))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    by_status = ", ".join(f"{count} x {status}" for status, count in sorted(stats.requests_by_status.items()))
    _print(
        f"{stats.requests} requests for {stats.rows} rows; answered {stats.answered} "
        f"({by_status or 'none'}); abandoned {stats.abandoned}; at most {stats.peak_in_flight} in flight; "
        f"{stats.prompt_tokens} prompt and {stats.completion_tokens} completion tokens paid"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
