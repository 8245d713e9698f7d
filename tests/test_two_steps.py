"""A partition in two steps: filled in one process and written in another, or both in one."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.errors import StorageError, TooManyFailedError
from tasks.core.job import Job
from tasks.core.ledger.ledger import Ledger
from tasks.core.model import Outcome, Partition, Status
from tasks.core.parquet.output_schema import SUMMARY_COLUMNS, OutputColumn, OutputSchema
from tasks.core.partition import summarize_partition
from tasks.core.partition.fill import fill, fill_opened
from tasks.core.partition.filled import Filled
from tasks.core.partition.opened import open_partition
from tasks.core.partition.write import write, write_opened
from tasks.core.reporting.report import PartitionReport
from tasks.core.rows.batch import OnRow, Row
from tasks.core.storage.discovery import discover
from tests.enriched_files import Echo, job_of, text_of
from tests.prefectserver import wait_until

ROWS = 700
INVALID = {3, 650}
"""Rows that are not valid UTF-8."""
SOON_S = 20.0


class Mixed(Echo):
    """Some rows are truncated, and one that is not valid UTF-8 fails; counts the rows it is given."""

    def __init__(self) -> None:
        self.rows = 0

    def one(self, row: Row, place: int, on_row: OnRow) -> Outcome:
        if isinstance(row, Outcome):
            on_row(place, row)
            return row
        self.rows += 1
        text = text_of(row) or ""
        cut = text.endswith("7")
        outcome = Outcome(
            Status.TRUNCATED if cut else Status.OK,
            text=None if text.endswith("5") else f"of {text}",
            error="cut" if cut else None,
            model="m",
            prompt_tokens=len(text),
            max_output_tokens=9,
            requests=1,
        )
        on_row(place, outcome)
        return outcome


class Failing(Mixed):
    """Rows whose text ends with a digit fail."""

    def __init__(self, digit: str) -> None:
        super().__init__()
        self._digit = digit

    def one(self, row: Row, place: int, on_row: OnRow) -> Outcome:
        if (text_of(row) or "").endswith(self._digit):
            outcome = Outcome(Status.FAILED, error="HTTP 500", requests=2, lost_replies=1)
            on_row(place, outcome)
            return outcome
        return super().one(row, place, on_row)


class NoRows(Echo):
    """Fails when a row is requested."""

    def one(self, row: Row, place: int, on_row: OnRow) -> Outcome:
        assert isinstance(row, Outcome), "a row was requested"
        return super().one(row, place, on_row)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A source with rows of every kind: unequal and equal texts, null, blank, not valid UTF-8."""
    texts = [f"text {n % 600}".encode() for n in range(ROWS)]
    texts[3], texts[4], texts[650] = b"\xff\xfe", b" \n", b"caf\xe9"
    column = pa.array([None if n % 9 == 4 else text for n, text in enumerate(texts)], pa.binary())
    table = pa.table({"id": range(ROWS), "text": column.view(pa.string())})
    (tmp_path / "in").mkdir()
    pq.write_table(table, tmp_path / "in" / "part.parquet", row_group_size=250)
    return tmp_path


def job_in(folder: Path, destination: str) -> Job:
    return job_of(str(folder / "in"), str(folder / destination))


def only(job: Job) -> Partition:
    (partition,) = discover(job.pattern).partitions
    return partition


def ledger_of(job: Job) -> Ledger:
    return Ledger(job.destination, fingerprint=job.request.fingerprint, earlier=job.earlier)


def fill_here(folder: Path, destination: str, rows: Mixed) -> Filled:
    job = job_in(folder, destination)
    with ledger_of(job) as ledger:
        return fill(only(job), job, rows, ledger)


def write_here(folder: Path, destination: str, filled: Filled | None) -> PartitionReport:
    job = job_in(folder, destination)
    with ledger_of(job) as ledger:
        return write(only(job), job, ledger, filled)


def both_here(folder: Path, destination: str, rows: Mixed) -> PartitionReport:
    job = job_in(folder, destination)
    with ledger_of(job) as ledger:
        return summarize_partition(only(job), job, rows, ledger)


def published(folder: Path, destination: str) -> bytes:
    return (folder / destination / "part.parquet").read_bytes()


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[ProcessPoolExecutor]:
    """Another process, which shares nothing with this one."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        yield pool


@pytest.mark.parametrize("hands_over", [True, False], ids=["with the rows", "from the ledger alone"])
def test_filled_here_and_written_elsewhere_is_the_file_of_one_process(
    folder: Path, elsewhere: ProcessPoolExecutor, *, hands_over: bool
) -> None:
    rows = Mixed()
    report = both_here(folder, "out", rows)
    filled = fill_here(folder, "there", rows)
    handed = filled if hands_over else None
    written = elsewhere.submit(write_here, folder, "there", handed).result()
    assert published(folder, "there") == published(folder, "out")
    assert written.tally.by_status == report.tally.by_status
    assert written.failures == report.failures
    assert {failure.row for failure in report.failures} == INVALID
    if hands_over:
        assert replace(written, seconds=0, bytes_read=0) == replace(report, seconds=0, bytes_read=0)
        assert written.bytes_read > report.bytes_read
    assert not (folder / "there" / "_ledger").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.test_two_steps import Mixed, fill_here

fill_here(Path(sys.argv[1]), "out", Mixed())
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_between_the_steps_costs_no_request(folder: Path) -> None:
    both_here(folder, "undisturbed", Mixed())
    ended = subprocess.run([sys.executable, "-c", KILLED, str(folder)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not (folder / "out" / "part.parquet").exists()
    rows = Mixed()
    report = both_here(folder, "out", rows)
    assert (rows.rows, report.tally.requests) == (0, 0)
    assert published(folder, "out") == published(folder, "undisturbed")


def test_in_one_process_no_segment_is_read_again(folder: Path) -> None:
    both_here(folder, "undisturbed", Mixed())
    job = job_in(folder, "out")
    with ledger_of(job) as ledger, open_partition(only(job), job, ledger) as opened:
        filled = fill_opened(opened, Mixed())
        wait_until(lambda: not opened.replies.buffer.is_busy, SOON_S)
        segments = list((folder / "out").rglob("*.segment"))
        assert segments
        for segment in segments:
            segment.unlink()
        write_opened(opened, filled)
    assert published(folder, "out") == published(folder, "undisturbed")


def test_a_row_without_a_reply_in_the_ledger_is_failed_and_requested_by_the_next_run(folder: Path) -> None:
    fill_here(folder, "out", Failing("8"))
    report = write_here(folder, "out", None)
    table = pq.read_table(folder / "out" / "part.parquet", columns=["id", "summary_status", "summary_error"])
    failed = [row for row in table.to_pylist() if row["summary_status"] == "failed"]
    lacking = [row for row in failed if row["id"] not in INVALID]
    assert report.tally.failed == len(failed)
    assert {row["id"] % 10 for row in lacking} == {8}
    assert {row["summary_error"] for row in lacking} == {
        "the ledger has no reply to this row: run again to request it"
    }
    rows = Mixed()
    assert both_here(folder, "out", rows).tally.failed == len(INVALID)
    assert rows.rows == len(lacking)


def test_failed_rows_keep_their_reason_across_processes(folder: Path, elsewhere: ProcessPoolExecutor) -> None:
    filled = fill_here(folder, "out", Failing("8"))
    report = elsewhere.submit(write_here, folder, "out", filled).result()
    errors = pq.read_table(folder / "out" / "part.parquet")["summary_error"].to_pylist()
    assert errors[8] == "HTTP 500"
    assert report.tally.lost_replies == filled.tally.lost_replies > 0
    assert report.tally.failed == filled.tally.failed


def test_too_many_failed_rows_are_not_published_whichever_process_writes(folder: Path) -> None:
    filled = fill_here(folder, "out", Failing("8"))
    job = replace(job_in(folder, "out"), max_failed_fraction=0.01)
    with ledger_of(job) as ledger, pytest.raises(TooManyFailedError, match="of 700 rows failed"):
        write(only(job), job, ledger, filled)
    assert not (folder / "out" / "part.parquet").exists()
    assert both_here(folder, "out", Mixed()).tally.failed == len(INVALID)


def test_a_source_replaced_between_the_steps_is_not_written_with_the_rows_of_the_former(folder: Path) -> None:
    filled = fill_here(folder, "out", Mixed())
    pq.write_table(pa.table({"id": [1], "text": ["another"]}), folder / "in" / "part.parquet")
    with pytest.raises(StorageError, match="was replaced while it was summarized"):
        write_here(folder, "out", filled)
    assert not (folder / "out" / "part.parquet").exists()


def _length(outcome: Outcome) -> int | None:
    return None if outcome.text is None else len(outcome.text)


def test_one_more_output_column_is_one_more_entry_of_the_schema(folder: Path) -> None:
    length = OutputColumn("length", pa.int32(), _length)
    job = replace(job_in(folder, "out"), columns=OutputSchema("more", (*SUMMARY_COLUMNS, length)))
    with ledger_of(job) as ledger:
        summarize_partition(only(job), job, Mixed(), ledger)
    table = pq.read_table(folder / "out" / "part.parquet")
    assert table["more_length"].to_pylist() == [text and len(text) for text in table["more"].to_pylist()]
    assert table.schema.field("more_length").type == pa.int32()
    # The output gives its replies back to a run with other columns.
    with ledger_of(job_in(folder, "out")) as ledger:
        report = summarize_partition(only(job), job_in(folder, "out"), NoRows(), ledger)
    assert report.tally.reused > 0
