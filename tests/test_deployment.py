"""The way a team runs it: a Prefect server, `prefect deploy --all`, a process worker, a run."""

import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem

from tests.conftest import Serve
from tests.tables import partition_table, read, write_partition

ROOT = Path(__file__).parent.parent
PREFECT = f"{sysconfig.get_path('scripts')}/prefect"
READY_WITHIN_S = 60


@contextmanager
def running(*arguments: str, env: dict[str, str], cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A `prefect` command in the background, ended by its id with all it started."""
    process = subprocess.Popen(
        [PREFECT, *arguments],
        env=env,
        cwd=cwd,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def prefect(*arguments: str, env: dict[str, str], cwd: Path) -> str:
    ended = subprocess.run(
        [PREFECT, "--no-prompt", *arguments],
        env=env,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_until_healthy(url: str) -> None:
    """There is no event to wait on in another program."""
    end_s = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < end_s:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):  # noqa: S310 - http on loopback
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    pytest.fail("the Prefect server did not start")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What a fresh clone holds, so that nothing is written into this one."""
    folder = tmp_path / "checkout"
    for name in ("flows", "tasks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("prefect.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def test_a_worker_runs_what_prefect_deploy_all_registered(
    endpoint: Serve, tmp_path: Path, checkout: Path
) -> None:
    server, port = endpoint(), free_port()
    write_partition(LocalFileSystem(), f"{tmp_path}/in/a=1/x.parquet", partition_table(0, 20))
    env = os.environ | {
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
    }
    parameters = {"source": f"{tmp_path}/in", "destination": f"{tmp_path}/out", "text_column": "body"}
    flags = [flag for name, value in parameters.items() for flag in ("-p", f"{name}={value}")]
    with running("server", "start", "--host", "127.0.0.1", "--port", str(port), env=env, cwd=checkout):
        wait_until_healthy(env["PREFECT_API_URL"])
        prefect("work-pool", "create", "summarize", "--type", "process", env=env, cwd=checkout)
        assert "summarize-parquet" in prefect("deploy", "--all", env=env, cwd=checkout)
        with running("worker", "start", "--pool", "summarize", env=env, cwd=checkout):
            told = prefect(
                "deployment",
                "run",
                "summarize-parquet/summarize-parquet",
                *flags,
                "--watch",
                env=env,
                cwd=checkout,
            )
    assert "Completed" in told
    assert server.stats().requests == 18
    assert read(LocalFileSystem(), f"{tmp_path}/out/a=1/x.parquet").metadata.num_rows == 20
