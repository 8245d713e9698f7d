"""Whole runs through Prefect's own engine and ephemeral server."""

import asyncio
import random
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from prefect import flow
from prefect.client.schemas.objects import StateType

from flows.summarize import summarize_parquet
from tasks.core.errors import (
    BudgetError,
    DeploymentError,
    LeaseError,
    PreflightError,
    RunFailedError,
    SettingsError,
)
from tasks.core.lease.lease import Lease
from tasks.core.options import LimitOptions, OutputOptions
from tasks.core.reporting.report import PartitionState, RunReport
from tasks.core.storage.location import locate
from tasks.local.endpoint_config import EndpointConfig
from tasks.local.endpoint_process import spawn
from tests.conftest import Serve
from tests.s3server import S3Server
from tests.source_partitions import marker, partition_table, read, write_partition

LOCAL = LocalFileSystem()


def write_source(folder: Path, partitions: int, rows: int) -> None:
    for number in range(partitions):
        write_partition(LOCAL, f"{folder}/part-{number}.parquet", partition_table(number, rows))


def assert_enriched(fs: fsspec.AbstractFileSystem, source: str, output: str, partition: int) -> None:
    """Everything of the source is as it was, and every summary is in its row."""
    before, after = read(fs, source), read(fs, output)
    table = after.read()
    names = before.schema_arrow.names
    assert table.select(names).cast(before.schema_arrow).equals(before.read())
    groups = range(before.metadata.num_row_groups)
    assert [after.metadata.row_group(i).num_rows for i in groups] == [
        before.metadata.row_group(i).num_rows for i in groups
    ]
    assert after.schema_arrow.metadata[b"owner"] == b"tests"
    for row, (text, summary) in enumerate(
        zip(table["body"].to_pylist(), table["summary"].to_pylist(), strict=True)
    ):
        assert (summary is None) == (text is None)
        assert text is None or summary.startswith(f"This is {marker(partition, row)}. ")


def test_ten_thousand_rows_on_s3_come_back_in_their_rows_with_one_request_each(
    bucket: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs, chance = s3_server.filesystem(), random.Random(3)
    sizes = [chance.randint(100, 900) for _ in range(19)]
    sizes.append(10_000 - sum(sizes))
    keys = [
        f"day={number % 3}/part {number} [x] #%=\N{LATIN SMALL LETTER E WITH ACUTE}.parquet"
        for number in range(20)
    ]
    for number, (key, size) in enumerate(zip(keys, sizes, strict=True)):
        write_partition(
            fs, f"{bucket}/in/{key}", partition_table(number, size), (size // 3, size - size // 3)
        )
    with spawn(EndpointConfig(latency_ms=20, sigma=1.0)) as server:
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", server.url)
        monkeypatch.setenv("AZURE_OPENAI_API_KEY", "test-key")
        monkeypatch.setenv("AZURE_OPENAI_DEPLOYMENT", "gpt-4o-mini")
        report = summarize_parquet(f"{bucket}/in", f"{bucket}/out", "body")
        stats = server.stats()
    not_empty = sum(size - size // 10 for size in sizes)
    assert report.tally.rows == 10_000
    assert report.tally.ok == not_empty
    assert (stats.requests, stats.row_requests_max) == (not_empty, 1)
    assert stats.requests == report.tally.requests
    assert stats.peak_in_flight <= 64
    found = [path for path in fs.find(f"{bucket}/out") if "/_reports/" not in path]
    assert sorted(found) == sorted(f"{bucket[5:]}/out/{key}" for key in ["_ledger/lease-000001.json", *keys])
    for number, key in enumerate(keys):
        assert_enriched(fs, f"{bucket}/in/{key}", f"{bucket}/out/{key}", number)


def test_a_second_run_in_the_same_process_works_like_the_first(endpoint: Serve, tmp_path: Path) -> None:
    server = endpoint(latency_ms=10)
    write_source(tmp_path / "in", partitions=8, rows=20)
    for number in (1, 2):
        report = summarize_parquet(str(tmp_path / "in"), str(tmp_path / f"out{number}"), "body")
        assert report.succeeded
        assert server.stats().requests == 8 * 18 * number


@flow
def sync_parent(source: str, destination: str) -> RunReport:
    return summarize_parquet(source, destination, "body")


@flow
async def async_parent(source: str, destination: str) -> RunReport:
    return summarize_parquet(source, destination, "body")


def test_it_runs_as_a_subflow_of_a_sync_and_of_an_async_flow(endpoint: Serve, tmp_path: Path) -> None:
    server = endpoint()
    write_source(tmp_path / "in", partitions=2, rows=20)
    assert sync_parent(str(tmp_path / "in"), str(tmp_path / "out1")).tally.ok == 36
    assert asyncio.run(async_parent(str(tmp_path / "in"), str(tmp_path / "out2"))).tally.ok == 36
    assert server.stats().requests == 72


def test_a_partition_that_fails_is_reported_with_all_others_finished_then_the_run_raises(
    endpoint: Serve, tmp_path: Path
) -> None:
    endpoint()
    write_source(tmp_path / "in", partitions=3, rows=20)
    torn = tmp_path / "in" / "part-1.parquet"
    torn.write_bytes(b"PAR1" + bytes(500) + torn.read_bytes()[504:])
    with pytest.raises(RunFailedError, match="1 partitions failed") as caught:
        summarize_parquet(str(tmp_path / "in"), str(tmp_path / "out"), "body")
    report = caught.value.report
    assert report is not None
    assert [p.state for p in report.partitions] == [
        PartitionState.PUBLISHED,
        PartitionState.FAILED,
        PartitionState.PUBLISHED,
    ]
    assert "row group 0" in (report.partitions[1].error or "")
    assert sorted(path.name for path in (tmp_path / "out").glob("*.parquet")) == [
        "part-0.parquet",
        "part-2.parquet",
    ]


def test_failed_rows_are_published_with_their_reason_and_fail_the_run(
    endpoint: Serve, tmp_path: Path
) -> None:
    endpoint()
    table = pa.table({"body": ["Good text. More.", "Bad text. [[fault:server-error]]", "Also good. More."]})
    write_partition(LOCAL, f"{tmp_path}/in/a.parquet", table)
    with pytest.raises(RunFailedError, match="1 rows"):
        summarize_parquet(
            f"{tmp_path}/in",
            f"{tmp_path}/out",
            "body",
            limits=LimitOptions(max_attempts=2),
            output=OutputOptions(max_failed_fraction=0.5),
        )
    rows = read(LOCAL, f"{tmp_path}/out/a.parquet").read()
    assert rows["summary_status"].to_pylist() == ["ok", "failed", "ok"]
    assert rows["summary_error"].to_pylist() == [
        None,
        "2 attempts, the last: HTTP 500, InternalServerError",
        None,
    ]


def test_a_wrong_key_stops_within_the_window_and_publishes_nothing(endpoint: Serve, tmp_path: Path) -> None:
    server = endpoint(api_key="another-key", latency_ms=5)
    write_source(tmp_path / "in", partitions=8, rows=50)
    with pytest.raises(DeploymentError, match="AZURE_OPENAI_API_KEY"):
        summarize_parquet(f"{tmp_path}/in", f"{tmp_path}/out", "body", limits=LimitOptions(max_concurrent=6))
    assert server.stats().requests <= 6
    assert not list(tmp_path.rglob("out/*.parquet"))


def test_wrong_settings_and_wrong_partitions_are_told_before_a_request(
    endpoint: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = endpoint()
    write_source(tmp_path / "in", partitions=2, rows=5)
    with pytest.raises(PreflightError, match=r"part-0.parquet: column 'text' is missing"):
        summarize_parquet(f"{tmp_path}/in", f"{tmp_path}/out", "text")
    monkeypatch.delenv("AZURE_OPENAI_DEPLOYMENT")
    with pytest.raises(SettingsError, match="AZURE_OPENAI_DEPLOYMENT is not set"):
        summarize_parquet(f"{tmp_path}/in", f"{tmp_path}/out", "body")
    assert server.stats().requests == 0


class FlakyFileSystem(MemoryFileSystem):  # type: ignore[misc]  # fsspec ships no annotations
    """Fails the first upload, as a store in trouble does."""

    protocol = "flaky"
    failures_left = 1

    def put_file(self, *args: object, **kwargs: object) -> None:
        if FlakyFileSystem.failures_left:
            FlakyFileSystem.failures_left -= 1
            raise TimeoutError
        super().put_file(*args, **kwargs)


def test_a_partition_whose_storage_failed_is_tried_again_by_prefect(endpoint: Serve, tmp_path: Path) -> None:
    endpoint()
    fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)
    write_source(tmp_path / "in", partitions=1, rows=5)
    report = summarize_parquet(f"{tmp_path}/in", "flaky://bucket/out", "body")
    assert report.succeeded
    assert FlakyFileSystem.failures_left == 0
    assert read(*fsspec.url_to_fs("flaky://bucket/out/part-0.parquet")).metadata.num_rows == 5


def test_prefects_retry_after_a_failed_publish_requests_nothing_twice(
    endpoint: Serve, tmp_path: Path
) -> None:
    server = endpoint()
    fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)
    FlakyFileSystem.failures_left = 1
    write_source(tmp_path / "in", partitions=1, rows=50)
    report = summarize_parquet(f"{tmp_path}/in", "flaky://bucket/retried", "body")
    assert report.succeeded
    assert (report.tally.ok, report.tally.reused) == (45, 45)
    assert (server.stats().requests, server.stats().row_requests_max) == (45, 1)


def test_a_finished_dataset_run_again_has_nothing_to_do(
    endpoint: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = endpoint()
    write_source(tmp_path / "in", partitions=3, rows=20)
    summarize_parquet(f"{tmp_path}/in", f"{tmp_path}/out", "body")
    write_partition(LOCAL, f"{tmp_path}/in/part-9.parquet", partition_table(9, 10))
    again = summarize_parquet(f"{tmp_path}/in", f"{tmp_path}/out", "body")
    skipped, published = PartitionState.SKIPPED, PartitionState.PUBLISHED
    assert [partition.state for partition in again.partitions] == [skipped] * 3 + [published]
    requests = server.stats().requests
    with caplog.at_level("INFO"):
        idle = summarize_parquet(f"{tmp_path}/in", f"{tmp_path}/out", "body")
    assert idle.succeeded
    assert "Nothing to do: 4 partitions are finished and unchanged" in caplog.text
    assert [partition.state for partition in idle.partitions] == [skipped] * 4
    assert server.stats().requests == requests == 63


def test_the_state_of_a_run_is_its_sentence(endpoint: Serve, tmp_path: Path) -> None:
    endpoint()
    write_source(tmp_path / "in", partitions=2, rows=20)
    arguments = f"{tmp_path}/in", f"{tmp_path}/out", "body"
    spent = summarize_parquet(*arguments, limits=LimitOptions(max_requests=10), return_state=True)
    assert (spent.type, spent.name) == (StateType.FAILED, "BudgetExhausted")
    assert (spent.message or "").startswith("Budget exhausted (10 requests): paid replies are kept.")
    assert "2 partitions unfinished, 10 requests, " in (spent.message or "")
    with pytest.raises(BudgetError):
        spent.result()
    done = summarize_parquet(*arguments, return_state=True)
    assert done.is_completed()
    counts = "2 partitions, 40 rows: 0 rows and 0 partitions failed, 26 requests, 0.00"
    assert (done.message or "").startswith(counts)
    assert " USD, " in (done.message or "")
    assert done.result().tally.rows == 40
    missing = summarize_parquet(arguments[0], arguments[1], "text", return_state=True)
    assert missing.name == "Failed"
    assert (missing.message or "").startswith("2 of 2 partitions that need work cannot be summarized")


def test_a_run_while_another_one_works_there_is_cancelled_as_an_overlap(
    endpoint: Serve, tmp_path: Path
) -> None:
    endpoint()
    write_source(tmp_path / "in", partitions=1, rows=20)
    arguments = f"{tmp_path}/in", f"{tmp_path}/out", "body"
    with Lease(locate(f"{tmp_path}/out")):
        overlap = summarize_parquet(*arguments, return_state=True)
    assert (overlap.type, overlap.name) == (StateType.CANCELLED, "Overlap")
    assert (overlap.message or "").startswith(f"Another run works on {tmp_path}/out: process ")
    with pytest.raises(LeaseError):
        overlap.result()
    assert summarize_parquet(*arguments, return_state=True).is_completed()


def test_a_deployment_that_asks_to_come_back_parks_the_run_and_tells_when(
    endpoint: Serve, tmp_path: Path
) -> None:
    endpoint(faults={"gpt-4o-mini": "rate-limit-long"})
    write_source(tmp_path / "in", partitions=1, rows=20)
    parked = summarize_parquet(f"{tmp_path}/in", f"{tmp_path}/out", "body", return_state=True)
    assert (parked.type, parked.name) == (StateType.FAILED, "Parked")
    assert "It serves again after 20" in (parked.message or "")


def test_partitions_that_share_a_task_are_reported_one_by_one_and_fail_one_by_one(
    endpoint: Serve, tmp_path: Path
) -> None:
    server = endpoint()
    fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)
    FlakyFileSystem.failures_left = 1
    write_source(tmp_path / "in", partitions=9, rows=10)
    torn = tmp_path / "in" / "part-4.parquet"
    torn.write_bytes(b"PAR1" + bytes(200) + torn.read_bytes()[204:])
    with pytest.raises(RunFailedError, match="0 rows and 1 partitions failed") as caught:
        summarize_parquet(
            f"{tmp_path}/in", "flaky://bucket/grouped", "body", limits=LimitOptions(max_tasks=2)
        )
    report = caught.value.report
    assert report is not None
    assert [p.key for p in report.failed_partitions] == ["part-4.parquet"]
    assert [p.tally.rows for p in report.partitions] == [10, 10, 10, 10, 0, 10, 10, 10, 10]
    assert (server.stats().requests, server.stats().row_requests_max) == (72, 1)
