"""One partition end to end: order, and what a failure, a kill or a dead store leaves behind."""

import os
import select
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.errors import InterruptedRunError, PartitionError, StorageError
from tasks.core.job import Job
from tasks.core.ledger.ledger import Ledger
from tasks.core.model import Outcome, Partition, Status
from tasks.core.output_facts import FINGERPRINT, fact_key
from tasks.core.partition import summarize_partition
from tasks.core.partition.write import is_within
from tasks.core.progress import Progress
from tasks.core.reporting.report import PartitionState
from tasks.core.rows.batch import OnRow, Row
from tasks.core.storage import stored_files
from tasks.core.storage.discovery import discover
from tasks.core.storage.location import locate
from tests.enriched_files import REQUEST, Echo, job_of, run_partition, text_of
from tests.s3server import running_s3_server

GROUPS = (40, 3, 57)
KEY = "y=1/part a.parquet"


class At(Echo):
    """Does something when it meets a row."""

    def __init__(self, row: int, act: Callable[[], None]) -> None:
        self._row, self._act, self._met = row, act, 0

    def one(self, row: Row, place: int, on_row: OnRow) -> Outcome:
        if self._met == self._row:
            self._act()
        self._met += 1
        return super().one(row, place, on_row)


def write_source(path: Path, start: int = 0, padding: int = 0) -> Path:
    """100 rows in three uneven row groups."""
    schema = pa.schema([("id", pa.int64()), ("text", pa.string()), ("more", pa.binary())])
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, schema) as writer:
        for rows in GROUPS:
            ids = range(start, start + rows)
            texts = [None if n % 9 == 4 else f"text {n}" for n in ids]
            more = [os.urandom(padding) for _ in ids]
            writer.write_table(pa.table([ids, texts, more], schema=schema))
            start += rows
    return path


@pytest.fixture(params=["local", "s3"])
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Job:
    """A source with one partition, and an empty destination."""
    local = write_source(tmp_path / "in" / KEY)
    if request.param == "local":
        return job_of(str(tmp_path / "in"), str(tmp_path / "out"))
    bucket = request.getfixturevalue("bucket")
    place = locate(f"{bucket}/in")
    place.fs.put_file(str(local), place.path(KEY))
    return job_of(f"{bucket}/in", f"{bucket}/out")


def only(job: Job) -> Partition:
    (partition,) = discover(job.pattern).partitions
    return partition


def output(job: Job) -> pa.Table:
    with job.destination.fs.open(job.destination.path(KEY)) as file:
        return pq.ParquetFile(file).read()


def left(job: Job) -> list[str]:
    """Every file of the destination, finished or not, but for what the ledger keeps."""
    place = job.destination
    files = [file.path.removeprefix(f"{place.root}/") for file in stored_files.list_files(place, place.root)]
    return [name for name in files if not name.startswith("_ledger/")]


def earlier(job: Job) -> Job:
    """A job whose outputs are worth nothing to this one."""
    return replace(job, request=replace(job.request, temperature=1.0))


def test_every_summary_is_in_its_row_over_uneven_row_groups(job: Job) -> None:
    report = run_partition(only(job), job, Echo())
    assert (report.key, report.state, report.error) == (KEY, PartitionState.PUBLISHED, None)
    assert report.tally.by_status[Status.EMPTY] + report.tally.ok == report.tally.rows == sum(GROUPS)
    rows = output(job).to_pylist()
    assert [row["id"] for row in rows] == list(range(100))
    for row in rows:
        text = row["text"]
        assert row["summary"] == (None if text is None else f"of text {row['id']}")
        assert row["summary_status"] == ("empty" if text is None else "ok")
        assert row["summary_prompt_tokens"] == (None if text is None else len(text))
    assert left(job) == [KEY]


def test_the_footer_of_an_output_carries_the_fingerprint_and_its_row_groups(job: Job) -> None:
    run_partition(only(job), job, Echo())
    with job.destination.fs.open(job.destination.path(KEY)) as file:
        metadata = pq.ParquetFile(file).metadata
    assert metadata.metadata[fact_key("summary", FINGERPRINT).encode()] == REQUEST.fingerprint.encode()
    assert tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)) == GROUPS


@pytest.mark.parametrize("row", [0, 39, 41, 99])
@pytest.mark.parametrize("rerun", [False, True], ids=["first run", "rerun"])
def test_an_exception_at_any_row_leaves_the_destination_as_it_was(job: Job, row: int, *, rerun: bool) -> None:
    def fail() -> None:
        message = "stopped"
        raise InterruptedRunError(message)

    if rerun:
        run_partition(only(job), earlier(job), Echo())
    before = output(job) if rerun else None
    with pytest.raises(InterruptedRunError):
        run_partition(only(job), job, At(row, fail))
    assert left(job) == ([KEY] if rerun else [])
    assert before is None or output(job).equals(before)
    if job.destination.is_local:
        assert not Path(job.destination.path("_aside")).exists()


KILLED = """
import sys, threading
from tests.enriched_files import job_of, run_partition
from tests.test_partition import At, only

def block():
    print("at row 50", flush=True)
    threading.Event().wait()

job = job_of(sys.argv[1], sys.argv[2])
run_partition(only(job), job, At(50, block))
"""


def start(program: str, *arguments: str, until: str) -> subprocess.Popen[str]:
    """Start a Python program and wait for it to print a line."""
    child = subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    select.select([child.stdout], [], [], 60)
    assert child.stdout.readline().strip() == until
    return child


@pytest.mark.parametrize("rerun", [False, True], ids=["first run", "rerun"])
def test_kill_9_while_writing_leaves_no_output_or_the_old_one(job: Job, *, rerun: bool) -> None:
    if rerun:
        run_partition(only(job), earlier(job), Echo())
    before = output(job) if rerun else None
    with start(KILLED, job.pattern, job.destination.url, until="at row 50") as child:
        child.kill()
    visible = [key for key in left(job) if not key.startswith("_")]
    assert visible == ([KEY] if rerun else [])
    assert before is None or output(job).equals(before)
    run_partition(only(job), job, Echo())
    assert output(job)["summary"].null_count == output(job)["text"].null_count


def test_a_source_replaced_while_it_is_read_is_a_storage_error_and_no_mixed_output(
    job: Job, tmp_path: Path
) -> None:
    other = write_source(tmp_path / "other.parquet", start=1000)

    def replace() -> None:
        job.source.fs.put_file(str(other), job.source.path(KEY))

    with pytest.raises(StorageError, match="was replaced while it was read"):
        run_partition(only(job), job, At(41, replace))
    assert left(job) == []
    run_partition(only(job), job, Echo())
    assert output(job)["id"].to_pylist() == list(range(1000, 1100))


def test_a_source_without_the_text_column_by_now_is_a_partition_error(job: Job, tmp_path: Path) -> None:
    partition = only(job)
    pq.write_table(pa.table({"id": [1]}), tmp_path / "other.parquet")
    job.source.fs.put_file(str(tmp_path / "other.parquet"), job.source.path(KEY))
    with pytest.raises(PartitionError, match=r"part a\.parquet: column 'text' is missing"):
        run_partition(partition, job, Echo())


def test_a_partition_that_is_gone_by_now_is_a_storage_error(job: Job) -> None:
    partition = only(job)
    job.source.fs.rm_file(job.source.path(KEY))
    with pytest.raises(StorageError, match="does not exist"):
        run_partition(partition, job, Echo())
    assert left(job) == []


@pytest.mark.parametrize("rows", [0, 1])
def test_partitions_without_rows_come_out_too(job: Job, tmp_path: Path, rows: int) -> None:
    table = pa.table({"text": pa.array([None] * rows, pa.string())})
    pq.write_table(table, tmp_path / "other.parquet")
    job.source.fs.put_file(str(tmp_path / "other.parquet"), job.source.path(KEY))
    report = run_partition(only(job), job, Echo())
    assert report.tally.rows == rows == len(output(job))


STORE_DIES = """
import sys, time
from pathlib import Path
from tests.enriched_files import job_of, run_partition
from tests.test_partition import At, only
from tasks.core.errors import StorageError

def wait():
    print("at row 1", flush=True)
    sys.stdin.readline()

job = job_of(sys.argv[1], sys.argv[2])
partition = only(job)
try:
    run_partition(partition, job, At(1, wait))
except StorageError as error:
    print("StorageError", error)
"""


@pytest.mark.parametrize("out", ["local", "s3"])
def test_a_store_that_dies_meanwhile_is_a_storage_error_soon_and_the_program_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    # 300 kB a row, so that the later row groups are not in what was read ahead.
    local = write_source(tmp_path / "in" / "part.parquet", padding=300_000)
    (tmp_path / "s3").mkdir()
    with running_s3_server(tmp_path / "s3") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        bucket = server.new_bucket()
        server.filesystem().put_file(str(local), f"{bucket}/in/part.parquet")
        destination = f"{bucket}/out" if out == "s3" else str(tmp_path / "out")
        child = subprocess.Popen(
            [sys.executable, "-c", STORE_DIES, f"{bucket}/in", destination],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with child:
            assert child.stdout is not None
            assert child.stdout.readline() == "at row 1\n"
            os.kill(server.pid, 9)
            said, _ = child.communicate("\n", timeout=30)
    assert child.returncode == 0
    assert said.startswith("StorageError")
    assert not [path for path in tmp_path.glob("out/**/*.parquet") if "_ledger" not in path.parts]


class Counted(Echo):
    """Counts rows as the gateway does; some rows fail, and at one row the store does, a few times."""

    def __init__(self, progress: Progress, failures: int) -> None:
        self._progress, self._failures = progress, failures

    def one(self, row: Row, place: int, on_row: OnRow) -> Outcome:
        text = text_of(row)
        if text == "text 80" and self._failures:
            self._failures -= 1
            message = "the store is away"
            raise StorageError(message)
        if text and text.endswith("7"):
            outcome = Outcome(Status.FAILED, error="HTTP 500")
            on_row(place, outcome)
        else:
            outcome = super().one(row, place, on_row)
        self._progress(outcome)
        return outcome


def test_a_partition_that_is_tried_again_is_counted_once_in_the_progress(job: Job) -> None:
    partition, progress = only(job), Progress()
    rows = Counted(progress, failures=2)
    with Ledger(job.destination, progress.advance, fingerprint=job.request.fingerprint) as ledger:
        for _ in range(2):
            with pytest.raises(StorageError, match="away"):
                summarize_partition(partition, job, rows, ledger)
        assert 0 < progress.rows < 100
        report = summarize_partition(partition, job, rows, ledger)
    assert report.tally.reused > 0
    assert (progress.rows, progress.failed) == (report.tally.rows, report.tally.failed) == (100, 9)


@pytest.mark.parametrize("rows", [100, 1000, 30_000])
def test_a_fraction_of_failed_rows_is_compared_as_it_was_written(rows: int) -> None:
    """As binary fractions, 29 of 100 rows are more than 0.29 of them."""
    for percent in range(101):
        fraction, most = float(f"{percent / 100:.2f}"), rows * percent // 100
        assert is_within(most, rows, fraction)
        assert not is_within(most + 1, rows, fraction)
    assert is_within(0, 0, 0.0)
