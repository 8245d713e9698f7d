"""Runs the local endpoint as a child process, for benchmarks and for tests that kill processes.

When the block of `spawn` ends, the process has ended and its pipe is closed.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tasks.local.endpoint import LISTENING
from tasks.local.endpoint_config import EndpointConfig, to_flags
from tasks.local.endpoint_control import RemoteEndpoint

ROOT: Final = Path(__file__).resolve().parents[2]
STOP_S: Final = 10.0
"""Seconds to stop after SIGTERM: far more than a busy machine needs, and short for a test that hangs."""


@contextlib.contextmanager
def spawn(config: EndpointConfig | None = None) -> Iterator[RemoteEndpoint]:
    """Run an endpoint as a child process until the block ends.

    Args:
        config: Its settings; by default no latency, no quota, no faults.

    Yields:
        The endpoint; its counters cannot be read after the block.

    Raises:
        RuntimeError: The process ended before it was listening; its error message is on stderr.
    """
    command = [sys.executable, "-m", "tasks.local.endpoint", *to_flags(config or EndpointConfig())]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            yield RemoteEndpoint(_address(process))
        finally:
            _end(process)


def _address(process: subprocess.Popen[str]) -> str:
    line = process.stdout.readline() if process.stdout else ""
    if not line.startswith(LISTENING):
        message = "the endpoint's process ended before it was listening; see its error message above"
        raise RuntimeError(message)
    return line.removeprefix(LISTENING).strip()


def _end(process: subprocess.Popen[str]) -> None:
    """Terminate the process; kill it if it does not end in time."""
    process.terminate()
    try:
        process.communicate(timeout=STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
