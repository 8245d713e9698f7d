"""Runs that are killed or stopped at random moments, and what the next run pays again."""

import logging
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from tasks.local.endpoint_control import Endpoint
from tests.conftest import Serve
from tests.core_runs import WINDOW, job_of, names, read, segments_in, tally, write

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parent.parent
ROWS = 600
LATENCY_MS = 200.0
REPLIES_A_SECOND = WINDOW * 1000 / LATENCY_MS
# One commit interval, and half a second to store it on a busy machine.
IN_MEMORY_ONLY = round(1.5 * REPLIES_A_SECOND)
FLOWS = (sys.executable, "-m", "flows", "run")
DIRECT = (*FLOWS, "--no-prefect")
FLAGS = ("--text-column", "body", "--prompt", "Summarize.", "--max-concurrent", f"{WINDOW}")


def texts(rows: int) -> list[str]:
    return [f"This is row {n}. And more." for n in range(rows)]


def start(*command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_until(reached: Callable[[], bool]) -> None:
    """Another process's progress is only to be had by asking."""
    for _ in range(6000):
        if reached():
            return
        threading.Event().wait(0.01)
    pytest.fail("the run made no progress")


def stop_after(child: subprocess.Popen[bytes], server: Endpoint, replies: int, number: int) -> None:
    """Send a signal when the endpoint has sent so many replies more; ends when the process has ended."""
    goal = server.stats().paid + replies
    with child:
        wait_until(lambda: server.stats().paid >= goal)
        child.send_signal(number)


def kept(destination: str) -> set[bytes]:
    tables = segments_in(destination)
    return {key for table in tables for key in table["key"].to_pylist()}


def undisturbed(folder: str, server: Endpoint) -> pa.Table:
    server.configure(latency_ms=0.0)
    tally(f"{folder}/in", f"{folder}/undisturbed")
    server.configure(latency_ms=LATENCY_MS)
    server.reset()
    return read(f"{folder}/undisturbed")


def requests_of(rows: Sequence[str], keys: set[bytes], folder: str, server: Endpoint) -> dict[str, int]:
    """Requests so far for the rows whose keys these are."""
    of = dict(zip(job_of(folder, f"{folder}-").request.row_keys(rows), rows, strict=True))
    return {of[key]: server.requests_for(of[key]) for key in keys}


@pytest.mark.parametrize("store", ["local", "s3"])
def test_kill_9_at_random_moments_pays_again_for_what_was_in_flight_and_a_second_at_most(
    request: pytest.FixtureRequest, endpoint: Serve, tmp_path: Path, store: str
) -> None:
    server, chance, kills = endpoint(), random.Random(store), 2
    folder = str(tmp_path) if store == "local" else request.getfixturevalue("bucket")
    write(f"{folder}/in", texts(ROWS))
    expected = undisturbed(folder, server)
    acknowledged: dict[str, int] = {}
    for _ in range(kills):
        before, paid = len(acknowledged), server.stats().paid
        stop_after(
            start(*DIRECT, f"{folder}/in", f"{folder}/out", *FLAGS),
            server,
            chance.randint(150, 280),
            signal.SIGKILL,
        )
        # Of rows kept before this run, not one was requested in it.
        assert all(server.requests_for(text) == count for text, count in acknowledged.items())
        acknowledged = requests_of(texts(ROWS), kept(f"{folder}/out"), f"{folder}/in", server)
        lost = server.stats().paid - paid - (len(acknowledged) - before)
        logger.info("kill -9: %d replies, %d not kept", server.stats().paid - paid, lost)
        assert lost <= WINDOW + IN_MEMORY_ONLY
        assert "part.parquet" not in names(f"{folder}/out")
    server.configure(latency_ms=1.0)
    counted = tally(f"{folder}/in", f"{folder}/out")
    assert all(server.requests_for(text) == count for text, count in acknowledged.items())
    assert (counted.rows, counted.ok, counted.reused) == (ROWS, ROWS, len(acknowledged))
    assert read(f"{folder}/out").equals(expected)
    assert server.stats().requests <= ROWS + kills * (WINDOW + IN_MEMORY_ONLY)
    left = [name for name in names(f"{folder}/out") if not name.startswith(("_aside/", "_ledger/lease"))]
    assert left == ["part.parquet"]


WAITS = """
import sys, threading
from tasks.core.partition import write as write_step
from tasks.core.ledger.ledger import Ledger
from tests.core_runs import run

def wait(*_):
    print("waiting", flush=True)
    threading.Event().wait()

{} = wait
run(*sys.argv[1:3])
"""


def test_a_kill_between_the_last_reply_and_publishing_costs_nothing(endpoint: Serve, tmp_path: Path) -> None:
    server, folders = endpoint(), (f"{tmp_path}/in", f"{tmp_path}/out")
    write(folders[0], texts(200))
    command = [sys.executable, "-c", WAITS.format("write_step.publish_appended"), *folders]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"waiting\n"
        wait_until(lambda: len(kept(folders[1])) == 200)
        child.kill()
    counted = tally(*folders)
    assert (counted.ok, counted.reused, server.stats().requests) == (200, 200, 200)


def test_a_kill_between_publishing_and_housekeeping_costs_nothing_and_leaves_nothing(
    endpoint: Serve, bucket: str
) -> None:
    server, folders = endpoint(), (f"{bucket}/in", f"{bucket}/out")
    write(folders[0], texts(200))
    command = [sys.executable, "-c", WAITS.format("Ledger.settle"), *folders]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"waiting\n"
        wait_until(lambda: len(kept(folders[1])) == 200)
        child.kill()
    assert "part.parquet" in names(folders[1])
    assert tally(*folders).rows == 0
    assert server.stats().requests == 200
    assert names(folders[1]) == ["part.parquet"]


STOPS = [
    (FLOWS, signal.SIGKILL),
    (FLOWS, signal.SIGTERM),
    (DIRECT, signal.SIGTERM),
    (DIRECT, signal.SIGINT),
]


@pytest.mark.parametrize(("program", "number"), STOPS, ids=["flow-kill", "flow-term", "term", "interrupt"])
def test_a_stopped_run_keeps_what_was_answered_and_is_finished_by_the_same_command(
    endpoint: Serve,
    tmp_path: Path,
    prefect_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: tuple[str, ...],
    number: signal.Signals,
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(prefect_home))
    server = endpoint()
    write(f"{tmp_path}/in", texts(ROWS))
    expected = undisturbed(str(tmp_path), server)
    folders = (f"{tmp_path}/in", f"{tmp_path}/out")
    stop_after(start(*program, *folders, *FLAGS), server, 180, number)
    paid, known = server.stats().paid, len(kept(folders[1]))
    # What ends in order stores everything that was answered.
    assert paid - known <= WINDOW + (IN_MEMORY_ONLY if number == signal.SIGKILL else 0)
    server.configure(latency_ms=1.0)
    counted = tally(*folders)
    assert (counted.ok, counted.reused) == (ROWS, known)
    assert read(folders[1]).equals(expected)
