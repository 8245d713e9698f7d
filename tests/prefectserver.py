"""Starts a real Prefect server, workers and runs as processes on loopback, and ends them."""

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

ROOT = Path(__file__).parent.parent
PREFECT = f"{sysconfig.get_path('scripts')}/prefect"
READY_WITHIN_S = 120
DEPLOYMENT = "summarize-parquet/development"


@contextmanager
def process(
    *command: str, env: dict[str, str] | None = None, cwd: Path = ROOT, log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program in its own process group; the group is killed at the end.

    A Prefect server that a run starts is not in this group; it ends with the run.
    """
    with (log or Path(os.devnull)).open("ab") as output:
        started = subprocess.Popen(
            command, env=env, cwd=cwd, start_new_session=True, stdout=output, stderr=output
        )
    try:
        yield started
    finally:
        kill_group(started)


def kill_group(started: subprocess.Popen[bytes]) -> None:
    """Kill a program and all processes of its group with SIGKILL."""
    with suppress(ProcessLookupError):
        os.killpg(started.pid, signal.SIGKILL)
    started.wait()


@dataclass(frozen=True, slots=True)
class PrefectServer:
    """A server, with the environment of its clients.

    Attributes:
        port: Its port.
        home: The folder of Prefect's own files.
        cwd: The working directory of programs.
    """

    port: int
    home: Path
    cwd: Path = ROOT

    @property
    def url(self) -> str:
        """The API's address."""
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def env(self) -> dict[str, str]:
        """The environment of the server and its clients."""
        return os.environ | {"PREFECT_HOME": str(self.home), "PREFECT_API_URL": self.url}

    def api(self, path: str, body: Mapping[str, Any] | None = None, method: str | None = None) -> Any:
        """Send a request to Prefect's REST API; returns the parsed reply."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - http on loopback
            f"{self.url}/{path}", data, {"content-type": "application/json"}, method=method
        )
        while True:
            try:
                with urllib.request.urlopen(request, timeout=180) as response:  # noqa: S310 - the same
                    text = response.read()
            except HTTPError as error:
                error.close()
                # The database was busy and nothing was done: retry.
                if error.code != HTTPStatus.SERVICE_UNAVAILABLE:
                    raise
            else:
                return json.loads(text) if text else None

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """Start the server, and wait until it is ready; it can be started again after its end."""
        command = (PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(self.port))
        with process(*command, env=self.env, cwd=self.cwd) as server:
            _wait_until_healthy(self.url)
            yield server

    @contextmanager
    def worker(self, log: Path | None = None) -> Iterator[None]:
        """Start a process worker; leave this context before the server's."""
        command = (PREFECT, "worker", "start", "--pool", "summarize")
        try:
            with process(*command, env=self.env, cwd=self.cwd, log=log):
                yield
        finally:
            # Each run has its own process group.
            _kill_all_with(f"PREFECT_HOME={self.home}", "PREFECT__FLOW_RUN_ID=")

    def command(self, *arguments: str) -> str:
        """Run a `prefect` command; returns its output."""
        ended = subprocess.run(
            [PREFECT, "--no-prompt", *arguments],
            env=self.env,
            cwd=self.cwd,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def deploy(self) -> None:
        """Create the work pool and all deployments."""
        self.command("work-pool", "create", "summarize", "--type", "process")
        assert "summarize-parquet" in self.command("deploy", "--all")


def run_of(source: str, destination: str, *flags: str) -> tuple[str, ...]:
    """The command line of a run."""
    return (sys.executable, "-m", "flows", "run", source, destination, "--text-column", "body", *flags)


def free_port() -> int:
    """A free TCP port."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_until(reached: Callable[[], bool], within_s: float = 120.0, every_s: float = 0.02) -> None:
    """Poll until a condition holds; for the progress of another program, which offers no event."""
    end_s = time.monotonic() + within_s
    while time.monotonic() < end_s:
        if reached():
            return
        time.sleep(every_s)
    pytest.fail("the other program made no progress")


def _wait_until_healthy(url: str) -> None:
    def is_healthy() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):  # noqa: S310 - http on loopback
                return True
        except (urllib.error.URLError, ConnectionError):
            return False

    wait_until(is_healthy, READY_WITHIN_S)


def _kill_all_with(*entries: str) -> None:
    """Kill all processes whose environment has entries with these prefixes; only tests set them."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            environment = (folder / "environ").read_bytes().split(b"\0")
            if all(any(one.startswith(entry.encode()) for one in environment) for entry in entries):
                os.kill(int(folder.name), signal.SIGKILL)
