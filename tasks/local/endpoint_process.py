"""An endpoint in a process of its own, for benchmarks and for tests that kill things.

Here: starting `python -m tasks.local.endpoint`, waiting for its address, ending it by its own id. Not here:
the endpoint. Invariant: when the block is left the process is gone and its pipe closed.
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


@contextlib.contextmanager
def spawn(config: EndpointConfig | None = None) -> Iterator[RemoteEndpoint]:
    """Run an endpoint as a process, as long as the block lasts.

    Args:
        config: Its settings; by default no latency, no quota, no faults.

    Yields:
        The handle; after the block its counters cannot be read any more.

    Raises:
        RuntimeError: The process ended before it listened; its own message is on stderr.
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
        message = "the endpoint's process ended before it listened; see its message above"
        raise RuntimeError(message)
    return line.removeprefix(LISTENING).strip()


def _end(process: subprocess.Popen[str]) -> None:
    """Ask it to stop, and make it stop when it does not."""
    process.terminate()
    try:
        process.communicate(timeout=STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
