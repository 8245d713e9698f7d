"""Errors that are kept hold no memory: not the frames they passed through, nor what those frames hold."""

import gc
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Never

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.errors import GroupError, PartitionError, RunFailedError, without_frames
from tasks.core.llm.chat_model import ChatModel
from tasks.core.model import Outcome, Partition, Status
from tasks.core.planning.grouping import Group
from tasks.core.ratelimit.limiter import Limiter
from tasks.core.reporting.results import Results
from tasks.core.rows.gateway import Gateway, LaneSpec
from tasks.core.rows.summarizer import RetryPolicy
from tasks.core.run.direct import Threads
from tasks.core.run.registry import registered
from tasks.core.run.run import run
from tasks.core.run.worker import Worker, new_worker
from tasks.core.settings import Settings
from tasks.core.storage.discovery import discover
from tasks.summarize import summarize_group
from tests.conftest import Serve
from tests.core_runs import spec_of
from tests.textmodels import OfTexts

ROWS, PARTITIONS = 2000, 6
TEXT = "A sentence. " * 200
BOUND_BYTES = 1_000_000
"""Of each partition, 2.4 MB of text have been read when the last page turns out to be corrupt."""


class Held:
    """Stands for a table in a frame."""


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is only in a cycle stays, as it does for long between two collections."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def partition(key: str = "a.parquet") -> Partition:
    return Partition(key=key, path=f"in/{key}", size_bytes=1, version="1")


def fail(held: list[weakref.ref[Held]], error: Exception) -> Never:
    big = Held()
    held.append(weakref.ref(big))
    try:
        fail_below(held)
    except KeyError as cause:
        raise error from cause


def fail_below(held: list[weakref.ref[Held]]) -> Never:
    big = Held()
    held.append(weakref.ref(big))
    raise KeyError


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(
    "error",
    [PartitionError("cannot be read"), ValueError("a row's text"), ExceptionGroup("two", [OSError()])],
    ids=lambda error: type(error).__name__,
)
def test_a_result_that_is_kept_frees_what_its_partition_had_in_memory(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    held, results = list[weakref.ref[Held]](), Results()
    try:
        fail(held, error)
    except type(error) as caught:
        results.record(partition(), caught)
    assert len(held) == 2
    assert [one() for one in held] == [None, None]
    assert results.is_final(partition())
    if isinstance(error, PartitionError):
        assert not caplog.records
    else:
        # The log has the lines, since the result has them no more; never the message.
        assert f"Partition a.parquet: unexpected {type(error).__name__}" in caplog.text
        assert "fail(held, error)" in caplog.text
        assert "a row's text" not in caplog.text


@pytest.mark.usefixtures("no_collector")
def test_errors_in_a_group_of_errors_lose_their_frames_too() -> None:
    held = list[weakref.ref[Held]]()
    try:
        fail(held, ValueError())
    except ValueError as error:
        kept = without_frames(ExceptionGroup("one", [error]))
    assert [one() for one in held] == [None, None]
    assert len(kept.exceptions) == 1


def corrupt(path: Path) -> None:
    """A partition whose last page cannot be read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"body": [f"{row} {TEXT}" for row in range(ROWS)]})
    pq.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=True)
    column = pq.read_metadata(path).row_group(0).column(0)
    with path.open("r+b") as file:
        file.seek(column.data_page_offset + column.total_compressed_size - 100)
        file.write(b"corrupt")


class Echo:
    """Answers at once."""

    async def summarize(self, text: str) -> Outcome:
        return Outcome(Status.OK, text[:10])


@asynccontextmanager
async def open_echo(measured: Callable[[ChatModel], ChatModel]) -> AsyncIterator[ChatModel]:
    yield measured(OfTexts(Echo()))


def new_gateway() -> Gateway:
    return Gateway([LaneSpec(open_echo, lambda: Limiter(64))], RetryPolicy())


@pytest.fixture
def worker(endpoint: Serve, tmp_path: Path) -> Worker:
    endpoint()
    for number in range(PARTITIONS):
        corrupt(tmp_path / "in" / f"part-{number}.parquet")
    spec = spec_of(f"{tmp_path}/in", f"{tmp_path}/out")
    return replace(new_worker(spec, Settings.from_environment()), gateway=new_gateway())


def held_bytes(run: Callable[[], object]) -> int:
    """What pyarrow has in memory more than before, while what a run left is kept."""
    before = pa.total_allocated_bytes()
    kept = run()
    assert kept is not None
    return int(pa.total_allocated_bytes() - before)


@pytest.mark.usefixtures("no_collector")
def test_partitions_with_a_corrupt_row_group_leave_no_tables_in_the_memory_of_the_run(
    worker: Worker,
) -> None:
    def fail() -> RunFailedError:
        with pytest.raises(RunFailedError) as caught:
            run(worker, Threads())
        # Its frames hold the run's, so also the results.
        assert caught.value.__traceback__
        return caught.value

    assert held_bytes(fail) < BOUND_BYTES


@pytest.mark.usefixtures("no_collector")
def test_nor_do_the_errors_that_prefects_task_hands_back(worker: Worker) -> None:
    group = Group(discover(worker.job.pattern).partitions)

    def fail() -> list[object]:
        with (
            pytest.raises(GroupError) as caught,
            registered(worker),
            worker.ledger,
            worker.gateway,
        ):
            summarize_group.fn(group, worker.spec)
        return [caught.value, worker.results]

    assert held_bytes(fail) < BOUND_BYTES
    assert all(worker.results.is_final(partition) for partition in group.partitions)
