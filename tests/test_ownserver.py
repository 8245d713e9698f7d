"""The Prefect server of a run's own: there when none is named, gone when the run is."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.local.endpoint_control import Endpoint
from tests.conftest import Serve
from tests.core_runs import write
from tests.prefectserver import ROOT, process, run_of, wait_until

ROWS = 40
TWO_RUNS = """
import os, subprocess, sys
from flows.__main__ import main

source, folder = sys.argv[1:]
for number in range(2):
    assert main(["run", source, f"{folder}/out{number}", "--text-column", "body"]) == 0
listed = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "flows.ownserver"], stdout=subprocess.PIPE)
assert len(listed.stdout.split()) == 1
"""


@pytest.fixture
def llm(endpoint: Serve, tmp_path: Path) -> Endpoint:
    write(f"{tmp_path}/in", [f"This is row {number}. And more." for number in range(ROWS)])
    return endpoint(latency_ms=60_000)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFECT_HOME", f"{tmp_path}/prefect")
    return tmp_path / "prefect"


def command(folder: Path, *flags: str) -> tuple[str, ...]:
    return run_of(f"{folder}/in", f"{folder}/out", *flags)


def ended(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(folder), cwd=ROOT, capture_output=True, text=True, check=False)


def server_of(run: subprocess.Popen[bytes]) -> int:
    """The id of the server's process."""
    listed = subprocess.run(["pgrep", "-P", f"{run.pid}"], capture_output=True, check=True).stdout  # noqa: S607
    return int(listed)


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.usefixtures("prefect_home")
def test_a_run_that_is_killed_leaves_no_server_behind(llm: Endpoint, tmp_path: Path) -> None:
    with process(*command(tmp_path)) as run:
        wait_until(lambda: llm.stats().in_flight > 0)
        server = server_of(run)
        assert is_alive(server)
        run.kill()
        wait_until(lambda: not is_alive(server), within_s=20)


@pytest.mark.usefixtures("prefect_home")
def test_after_ctrl_c_the_server_still_hears_how_the_run_ended(
    llm: Endpoint, tmp_path: Path, home: Path
) -> None:
    with process(*command(tmp_path)) as run:
        wait_until(lambda: llm.stats().in_flight > 0)
        server = server_of(run)
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to all it started
        assert run.wait(60) == 130
    assert not is_alive(server)
    with sqlite3.connect(home / "prefect.db") as database:
        states = database.execute("select state_type from flow_run").fetchall()
    database.close()
    assert states == [("CRASHED",)]


def test_a_server_named_in_prefects_profile_is_the_one_that_is_used(
    llm: Endpoint, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiles = tmp_path / "profiles.toml"
    profiles.write_text('active = "ours"\n[profiles.ours]\nPREFECT_API_URL = "http://127.0.0.1:9/api"\n')
    monkeypatch.delenv("PREFECT_PROFILE")
    monkeypatch.setenv("PREFECT_PROFILES_PATH", f"{profiles}")
    failed = ended(tmp_path)
    assert failed.returncode == 2
    assert failed.stderr.startswith("No Prefect server answers at PREFECT_API_URL, http://127.0.0.1:9/api")
    assert not (home / "prefect.db").exists()
    assert llm.stats().requests == 0


def test_where_only_named_servers_are_allowed_a_run_says_what_to_do(
    llm: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "false")
    failed = ended(tmp_path)
    assert failed.returncode == 2
    [sentence] = failed.stderr.splitlines()
    assert "set PREFECT_API_URL, allow it, or use --no-prefect" in sentence
    assert llm.stats().requests == 0


def test_a_server_that_does_not_start_ends_the_run_before_a_request(
    llm: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = f"sqlite+aiosqlite:///{tmp_path}/none/prefect.db"
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", nowhere)
    failed = ended(tmp_path)
    assert failed.returncode == 2
    assert failed.stderr.splitlines()[-1].startswith("The run's own Prefect server did not start (")
    assert llm.stats().requests == 0


def test_wrong_settings_are_told_before_a_server_is_there(tmp_path: Path, home: Path) -> None:
    failed = ended(tmp_path)
    assert failed.returncode == 2
    assert not (home / "prefect.db").exists()


@pytest.mark.usefixtures("prefect_home")
def test_one_server_serves_every_run_of_a_process(endpoint: Serve, sample: Path, tmp_path: Path) -> None:
    endpoint()
    arguments = [sys.executable, "-c", TWO_RUNS, f"{sample}", f"{tmp_path}"]
    subprocess.run(arguments, cwd=ROOT, check=True)


@pytest.mark.usefixtures("prefect_home")
def test_no_proxy_comes_between_a_run_and_its_server(
    endpoint: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(f"{tmp_path}/in", ["This is a row. And more."])
    endpoint()
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "example.com")
    reported = ended(tmp_path)
    assert reported.returncode == 0, reported.stderr
