"""A real Prefect server and worker on loopback, and whole runs as processes, ended with all they started."""

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
    """A program in the background, in a group of its own; the group is killed in the end.

    A run's own server is not in the group, but ends when the run does.
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
    """Kill -9 a program and all it started, as far as it stayed in its group."""
    with suppress(ProcessLookupError):
        os.killpg(started.pid, signal.SIGKILL)
    started.wait()


@dataclass(frozen=True, slots=True)
class PrefectServer:
    """Where a server listens, and how its clients are told.

    Attributes:
        port: Its port.
        home: The folder of Prefect's own files.
        cwd: Where programs run.
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
        """The environment of everything that speaks to it."""
        return os.environ | {"PREFECT_HOME": str(self.home), "PREFECT_API_URL": self.url}

    def ask(self, path: str, body: Mapping[str, Any] | None = None, method: str | None = None) -> Any:
        """Prefect's REST API: the reply, parsed."""
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
                # Its database was busy, and nothing was done.
                if error.code != HTTPStatus.SERVICE_UNAVAILABLE:
                    raise
            else:
                return json.loads(text) if text else None

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """The server, ready; may be started again after it ended."""
        command = (PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(self.port))
        with process(*command, env=self.env, cwd=self.cwd) as server:
            _wait_until_healthy(self.url)
            yield server

    @contextmanager
    def worker(self, log: Path | None = None) -> Iterator[None]:
        """A process worker of the pool; to be left before the server ends."""
        command = (PREFECT, "worker", "start", "--pool", "summarize")
        try:
            with process(*command, env=self.env, cwd=self.cwd, log=log):
                yield
        finally:
            # Runs are in groups of their own.
            _kill_all_with(f"PREFECT_HOME={self.home}", "PREFECT__FLOW_RUN_ID=")

    def command(self, *arguments: str) -> str:
        """Run a `prefect` command to its end; returns what it printed."""
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
        """Register the deployment, with a pool for it."""
        self.command("work-pool", "create", "summarize", "--type", "process")
        assert "summarize-parquet" in self.command("deploy", "--all")


def run_of(source: str, destination: str, *flags: str) -> tuple[str, ...]:
    """The command of a whole run."""
    return (sys.executable, "-m", "flows", "run", source, destination, "--text-column", "body", *flags)


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_until(reached: Callable[[], bool], within_s: float = 120.0, every_s: float = 0.02) -> None:
    """Wait for another program's progress, which is only to be had by asking, but not all the time."""
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
    """Kill every process whose environment has entries that begin so; only what a test started has them."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            environment = (folder / "environ").read_bytes().split(b"\0")
            if all(any(one.startswith(entry.encode()) for one in environment) for entry in entries):
                os.kill(int(folder.name), signal.SIGKILL)
