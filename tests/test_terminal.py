"""Terminals that are paused or gone, and pipes that are not read: no run fails, and no thread of it waits."""

import io
import logging
import os
import pty
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

import pytest

from tasks.core.terminal import BackgroundStream, in_background, log_in_background
from tests.conftest import Serve
from tests.core_runs import read
from tests.prefectserver import ROOT

CTRL_S = b"\x13"
PATIENCE_S = 60


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A terminal 100 characters wide: the side of the person who reads, and the side of the program."""
    reader, program = pty.openpty()
    termios.tcsetwinsize(program, (40, 100))
    yield reader, program
    for number in (reader, program):
        with suppress(OSError):
            os.close(number)


def fill(program: int) -> None:
    """Write until the other side would have to read."""
    os.set_blocking(program, False)
    with suppress(BlockingIOError):
        while True:
            os.write(program, b"x" * 64)
    os.set_blocking(program, True)


def never_read(terminal: tuple[int, int]) -> None:
    fill(terminal[1])


def paused(terminal: tuple[int, int]) -> None:
    os.write(terminal[0], CTRL_S)


def gone(terminal: tuple[int, int]) -> None:
    os.close(terminal[0])


def start(command: list[str], terminal: tuple[int, int], stdout: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=terminal[1],
        start_new_session=True,
    )


def ended(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(PATIENCE_S)
    finally:
        process.kill()
        process.wait()


def run(folder: Path, *flags: str) -> list[str]:
    asked = [f"{folder}/source", f"{folder}/out", "--text-column", "body", "--max-concurrent", "4"]
    return ["-m", "flows", "run", *asked, *flags]


def assert_all_rows_are_there(folder: Path) -> None:
    keys = [path.relative_to(folder / "source") for path in (folder / "source").rglob("*.parquet")]
    assert len(keys) == 3
    for key in keys:
        table = read(f"{folder}/out", str(key))
        assert set(table["summary_status"].to_pylist()) <= {"ok", "empty"}
        assert "ok" in table["summary_status"].to_pylist()


@pytest.mark.parametrize(
    ("end", "flags"),
    [(paused, ["--no-prefect"]), (never_read, [])],
    ids=["without Prefect", "with Prefect"],
)
@pytest.mark.usefixtures("sample")
def test_a_run_on_a_terminal_that_is_paused_finishes_all_rows(
    endpoint: Serve,
    tmp_path: Path,
    terminal: tuple[int, int],
    end: Callable[[tuple[int, int]], None],
    flags: list[str],
) -> None:
    server = endpoint(latency_ms=20)
    end(terminal)
    assert ended(start(run(tmp_path, *flags), terminal, subprocess.DEVNULL)) == 0
    assert_all_rows_are_there(tmp_path)
    assert server.stats().row_requests_max == 1


@pytest.mark.parametrize("flags", [["--no-prefect"], []], ids=["without Prefect", "with Prefect"])
@pytest.mark.usefixtures("sample")
def test_a_run_on_a_terminal_that_has_vanished_finishes_all_rows_and_ends_with_0(
    endpoint: Serve, tmp_path: Path, terminal: tuple[int, int], flags: list[str]
) -> None:
    server = endpoint(latency_ms=20)
    process = start(run(tmp_path, *flags), terminal, terminal[1])
    os.close(terminal[1])
    # The bar's first count: from here on it draws.
    seen = b""
    while b" rows/s" not in seen:
        seen += os.read(terminal[0], 4096)
    gone(terminal)
    assert ended(process) == 0
    assert_all_rows_are_there(tmp_path)
    assert server.stats().row_requests_max == 1


@pytest.mark.usefixtures("sample")
def test_a_refusal_on_a_terminal_that_has_vanished_keeps_its_exit_code(
    endpoint: Serve, tmp_path: Path, terminal: tuple[int, int]
) -> None:
    endpoint()
    gone(terminal)
    command = [*run(tmp_path, "--no-prefect"), "--column-prefix", "my summary"]
    assert ended(start(command, terminal, terminal[1])) == 2


RECIPE = """
import asyncio, sys
from tasks.core import parallel_summarize

async def main():
    outcomes = await parallel_summarize([f"Text {n}." for n in range(60)])
    assert [outcome.status.value for outcome in outcomes] == ["ok"] * 60

asyncio.run(main())
"""


@pytest.mark.parametrize("end", [never_read, gone])
def test_a_scripts_progress_bar_does_not_block_its_event_loop(
    endpoint: Serve, terminal: tuple[int, int], end: Callable[[tuple[int, int]], None]
) -> None:
    server = endpoint(latency_ms=20)
    end(terminal)
    assert ended(start(["-c", RECIPE], terminal, subprocess.DEVNULL)) == 0
    assert server.stats().requests == 60


@pytest.mark.usefixtures("sample")
def test_log_lines_appear_above_the_progress_bar(
    endpoint: Serve, tmp_path: Path, terminal: tuple[int, int]
) -> None:
    endpoint(latency_ms=20)
    process = start(run(tmp_path, "--no-prefect"), terminal, subprocess.DEVNULL)
    os.close(terminal[1])
    shown = b""
    with suppress(OSError):  # the last one that writes has gone
        while data := os.read(terminal[0], 4096):
            shown += data
    assert ended(process) == 0
    lines = shown.decode().replace("\r\n", "\n").split("\n")
    published = [line for line in lines if "published, " in line]
    assert len(published) == 3
    # What stood in the line was overwritten with spaces.
    assert all(line.rpartition("\r")[0].endswith(" ") or "\r" not in line for line in published)
    assert "40/40" in lines[-2]


@pytest.fixture
def pipe() -> Iterator[tuple[IO[bytes], io.TextIOWrapper]]:
    """A pipe that takes no more before it is read: its reader, and its writer as a program's stderr."""
    reader, writer = os.pipe()
    fill(writer)
    with suppress(OSError), open(reader, "rb", 0) as out, open(writer, "w", encoding="utf-8") as stream:  # noqa: PTH123 - descriptors
        yield out, stream


def text_after_filling(out: IO[bytes], until: str) -> str:
    seen = ""
    while until not in seen:
        seen += out.read(4096).decode().lstrip("x")
    return seen


@pytest.mark.parametrize("blocking", [True, False])
def test_queued_text_is_written_in_order_when_the_reader_reads_again(
    pipe: tuple[IO[bytes], io.TextIOWrapper],
    blocking: bool,  # noqa: FBT001 - parametrized
) -> None:
    out, stream = pipe
    os.set_blocking(stream.fileno(), blocking)
    background = BackgroundStream(stream)
    for number in range(100):
        background.write(f"line {number}\n")
    shown = text_after_filling(out, "line 99\n")
    assert shown == "".join(f"line {number}\n" for number in range(100))
    background.drain()
    assert not [thread for thread in threading.enumerate() if thread.name == "terminal"]


def test_the_queue_is_bounded_dropped_lines_are_counted_and_bars_are_dropped_first(
    pipe: tuple[IO[bytes], io.TextIOWrapper],
) -> None:
    out, stream = pipe
    background = BackgroundStream(stream)
    background.write("first\n")
    line, bar = "l" * 99 + "\n", "\r" + "b" * 99
    for _ in range(10_000):
        background.write(bar)
    for _ in range(10_000):
        background.write(line)
    shown = text_after_filling(out, "not read in time)\n")
    # What is being written, and as much again.
    assert shown.count(bar) <= 100
    assert 500 < shown.count(line) <= 1400
    assert f"({10_000 - shown.count(line)} lines left out" in shown


def test_a_reader_that_leaves_is_no_error_and_nothing_more_is_queued(
    pipe: tuple[IO[bytes], io.TextIOWrapper],
) -> None:
    out, stream = pipe
    background = BackgroundStream(stream)
    background.write("a line\n")
    out.close()
    background.drain(PATIENCE_S)
    assert background.write("another\n") == 8
    assert not [thread for thread in threading.enumerate() if thread.name == "terminal"]


class Notebook(io.StringIO):
    """A stream that is no file, with a descriptor that leads elsewhere."""

    def fileno(self) -> int:
        return 2


def test_a_notebooks_stream_gets_its_text_itself() -> None:
    stream = Notebook()
    background = BackgroundStream(cast("Any", stream))
    background.write("60/60")
    background.drain(PATIENCE_S)
    assert stream.getvalue() == "60/60"


def test_a_log_handler_on_a_pipe_that_is_not_read_returns_at_once(
    pipe: tuple[IO[bytes], io.TextIOWrapper], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, stream = pipe
    monkeypatch.setattr(sys, "stderr", stream)
    logger = logging.getLogger("tests.terminal")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger.addHandler(handler)
    try:
        log_in_background()
        log_in_background()
        logger.error("It failed")
        shown = text_after_filling(out, "failed\n")
    finally:
        logger.removeHandler(handler)
    assert shown == "ERROR It failed\n"
    in_background(stream).drain()
