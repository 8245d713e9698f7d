"""A run's spec in other processes: each builds its own worker, summarizes partitions, and reports."""

import multiprocessing
import pickle
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tasks.core.errors import GroupError, RunFailedError, StorageError, TooManyFailedError, TransientError
from tasks.core.model import Partition
from tasks.core.options import OutputOptions
from tasks.core.planning.grouping import Group
from tasks.core.reporting.report import PartitionReport, PartitionState
from tasks.core.run.direct import Threads, run_directly
from tasks.core.run.group_report import GroupReport
from tasks.core.run.orchestrator import MapPartitions
from tasks.core.run.registry import summarize_group
from tasks.core.run.run import run
from tasks.core.run.spec import RunSpec
from tasks.core.run.worker import new_worker
from tasks.core.settings import Settings
from tasks.core.storage.discovery import discover
from tests.conftest import Serve
from tests.core_runs import read, segments_in, spec_of, write

ROWS = 30
BAD_ROW = "Bad text. [[fault:server-error]]"


def texts(name: str) -> list[str]:
    return [f"This is row {n} of {name}. And more." for n in range(ROWS)]


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    """Two partitions: one whose rows are all answered, and one with a row that fails."""
    write(f"{tmp_path}/in", texts("a"), "a.parquet")
    write(f"{tmp_path}/in", [*texts("b"), BAD_ROW], "b.parquet")
    output = OutputOptions(max_failed_fraction=0.0)
    return replace(spec_of(f"{tmp_path}/in", f"{tmp_path}/out"), output=output)


def groups_of(spec: RunSpec) -> list[Group]:
    return [Group((partition,)) for partition in discover(spec.source).partitions]


def test_a_spawned_process_that_gets_a_spec_fills_and_publishes_partitions_and_returns_their_reports(
    endpoint: Serve, spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = endpoint()
    spec = replace(spec, settings=Settings.from_environment().without_secrets())
    # The child's environment has the key only; the spec says where to send.
    monkeypatch.delenv("AZURE_OPENAI_ENDPOINT")
    monkeypatch.setenv("AZURE_OPENAI_DEPLOYMENT", "another")
    assert b"test-key" not in pickle.dumps(spec)
    assert "test-key" not in repr(spec)
    assert spec.prompt not in repr(spec)
    [first, second] = groups_of(spec)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        published = pool.submit(summarize_group, first, spec).result(60)
        held_back = pool.submit(summarize_group, second, spec).result(60)
    report, error = published.results["a.parquet"], held_back.results["b.parquet"]
    assert isinstance(report, PartitionReport)
    assert (report.state, report.tally.ok) == (PartitionState.PUBLISHED, ROWS)
    summaries = read(spec.destination, "a.parquet")["summary"].to_pylist()
    assert [text.partition(". ")[0] for text in summaries] == [t.partition(". ")[0] for t in texts("a")]
    # Of the partition that is not published, every reply is in the ledger.
    assert isinstance(error, TooManyFailedError)
    assert error.report
    assert error.report.tally.failed == 1
    assert sum(len(table) for table in segments_in(spec.destination)) == ROWS
    assert server.stats().requests == 2 * ROWS + 2
    assert held_back.worker_id == published.worker_id
    assert (published.bill.sent, held_back.bill.sent) == (ROWS, 2 * ROWS + 2)


class Processes(Threads):
    """Maps partitions on spawned processes."""

    @contextmanager
    def workers(self, spec: RunSpec, max_workers: int) -> Iterator[MapPartitions]:  # noqa: ARG002
        with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:

            def map_partitions(partitions: Sequence[Partition]) -> Iterator[tuple[Group, GroupReport]]:
                groups = [Group((partition,)) for partition in partitions]
                return zip(groups, pool.map(summarize_group, groups, repeat(spec)), strict=True)

            yield map_partitions


def test_a_run_whose_partitions_are_mapped_on_processes_reports_all_rows_and_requests(
    endpoint: Serve, spec: RunSpec
) -> None:
    server = endpoint()
    worker = new_worker(spec, Settings.from_environment())
    with pytest.raises(RunFailedError) as caught:
        run(worker, Processes())
    report = caught.value.report
    assert report
    states = [(one.key, one.state) for one in report.partitions]
    assert states == [("a.parquet", PartitionState.PUBLISHED), ("b.parquet", PartitionState.FAILED)]
    assert report.bill.sent == server.stats().requests == 2 * ROWS + 2
    assert worker.progress.rows == ROWS
    # The next run, in one process, finds what the others' ledgers recorded.
    with pytest.raises(RunFailedError):
        run_directly(spec)
    assert server.stats().requests == 2 * ROWS + 4
    assert server.stats().row_paid_max == 1


def test_tasks_of_a_process_that_run_at_the_same_time_share_a_worker(endpoint: Serve, spec: RunSpec) -> None:
    server = endpoint(latency_ms=50)
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(summarize_group, groups_of(spec), repeat(spec)))
    assert len({report.worker_id for report in reports}) == 1
    assert max(report.bill.sent for report in reports) == server.stats().requests


class Unavailable(MemoryFileSystem):  # type: ignore[misc]  # fsspec ships no annotations
    """A store that rejects uploads of one partition for a while."""

    protocol = "unavailable"
    rejected = "b.parquet"

    def put_file(self, lpath: str, rpath: str, *args: object, **kwargs: object) -> None:
        if Unavailable.rejected and Unavailable.rejected in rpath:
            raise TimeoutError
        super().put_file(lpath, rpath, *args, **kwargs)


def test_a_retried_task_repeats_only_the_partitions_that_failed_transiently(
    endpoint: Serve, spec: RunSpec
) -> None:
    server = endpoint()
    fsspec.register_implementation("unavailable", Unavailable, clobber=True)
    spec = replace(spec, destination="unavailable://out", output=OutputOptions(max_failed_fraction=1.0))
    group = Group(discover(spec.source).partitions)
    first = summarize_group(group, spec)
    assert isinstance(first.results["b.parquet"], StorageError)
    with pytest.raises(GroupError) as caught:
        first.raise_if_failed()
    again: GroupError = pickle.loads(pickle.dumps(caught.value))
    assert again.is_transient
    assert again.report
    assert isinstance(again.report.error, TransientError)
    assert str(again) == str(first.results["b.parquet"])
    sent = server.stats().requests
    Unavailable.rejected = ""
    second = summarize_group(group, spec)
    second.raise_if_failed()
    assert second.results["a.parquet"] is first.results["a.parquet"]
    # The row that failed is requested again, no other.
    assert server.stats().requests == sent + 2
    assert second.bill.sent == sent + 2
