"""How much of it a run does: dry runs, some partitions, outputs without a source; through the flow."""

import json
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from flows.summarize import summarize_parquet
from tasks.core.errors import BudgetError, InputError
from tasks.core.options import LimitOptions, RunOptions
from tasks.core.reporting.rendering import to_json
from tasks.core.reporting.report import PartitionState
from tasks.local.endpoint_control import Endpoint
from tests.core_runs import names, write

PUBLISHED, SKIPPED, LEFT = PartitionState.PUBLISHED, PartitionState.SKIPPED, PartitionState.LEFT


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str]:
    """A source of four partitions of ten rows, and a destination."""
    for number in range(4):
        write(
            f"{tmp_path}/in",
            [f"This is {number} {n}. And more." for n in range(10)],
            f"day={number}/part.parquet",
        )
    return f"{tmp_path}/in", f"{tmp_path}/out"


def artifact(key: str) -> str:
    with get_client(sync_client=True) as client:
        [found, *_] = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])))
    return str(found.data)


def test_a_dry_run_reports_the_plan_and_writes_nothing(folders: tuple[str, str], server: Endpoint) -> None:
    summarize_parquet(*folders, "body", run=RunOptions(max_partitions=1))
    before, requests = names(folders[1]), server.stats().requests
    report = summarize_parquet(*folders, "body", run=RunOptions(dry_run=True, max_partitions=2))
    assert [partition.state for partition in report.partitions] == [
        SKIPPED,
        *[PartitionState.PLANNED] * 2,
        LEFT,
    ]
    assert report.plan is not None
    assert sum(partition.requests for partition in report.plan.partitions) == 20
    assert report.succeeded
    assert report.bill.sent == 0
    assert (names(folders[1]), server.stats().requests) == (before, requests)
    assert json.loads(to_json(report))["plan"]["partitions"][1]["why"] == "new"
    shown = artifact("summarize-parquet-plan")
    assert "2 of 4 partitions would run, 20 requests, 1 left for another run" in shown
    assert "| day=1/part.parquet | new | 10 |" in shown


def test_a_run_of_some_partitions_leaves_the_others_and_the_next_goes_on(
    folders: tuple[str, str], server: Endpoint
) -> None:
    first = summarize_parquet(*folders, "body", run=RunOptions(max_partitions=1))
    assert [partition.state for partition in first.partitions] == [PUBLISHED, LEFT, LEFT, LEFT]
    assert first.succeeded
    assert "3 of them left for another run" in first.headline
    only = summarize_parquet(*folders, "body", run=RunOptions(only="day=3/*"))
    assert [partition.state for partition in only.partitions] == [LEFT, LEFT, LEFT, PUBLISHED]
    rest = summarize_parquet(*folders, "body")
    assert [partition.state for partition in rest.partitions] == [SKIPPED, PUBLISHED, PUBLISHED, SKIPPED]
    assert server.stats().requests == 40


def test_orphaned_outputs_are_reported_and_removed_with_prune(
    folders: tuple[str, str], server: Endpoint
) -> None:
    summarize_parquet(*folders, "body")
    Path(folders[0], "day=2/part.parquet").unlink()
    reported = summarize_parquet(*folders, "body")
    assert (reported.orphans, reported.pruned) == (("day=2/part.parquet",), ())
    assert "day=2/part.parquet" in names(folders[1])
    dry = summarize_parquet(*folders, "body", run=RunOptions(dry_run=True, prune=True))
    assert dry.plan is not None
    assert (dry.plan.orphans, dry.plan.prunes, dry.pruned) == (("day=2/part.parquet",), True, ())
    assert "day=2/part.parquet" in names(folders[1])
    pruned = summarize_parquet(*folders, "body", run=RunOptions(prune=True))
    assert pruned.pruned == ("day=2/part.parquet",)
    left = [name for name in names(folders[1]) if not name.startswith("_ledger/lease-")]
    assert left == [f"day={n}/part.parquet" for n in (0, 1, 3)]
    assert server.stats().requests == 40


def test_a_run_that_is_stopped_removes_nothing(folders: tuple[str, str], server: Endpoint) -> None:
    summarize_parquet(*folders, "body")
    Path(folders[0], "day=2/part.parquet").unlink()
    write(folders[0], [f"This is new {n}. And more." for n in range(10)], "day=9/part.parquet")
    with pytest.raises(BudgetError) as stopped:
        summarize_parquet(*folders, "body", limits=LimitOptions(max_requests=3), run=RunOptions(prune=True))
    assert stopped.value.report is not None
    assert stopped.value.report.orphans == ("day=2/part.parquet",)
    assert stopped.value.report.pruned == ()
    assert "day=2/part.parquet" in names(folders[1])
    assert server.stats().requests == 43


def test_removing_with_a_glob_as_source_is_refused_before_a_request(
    folders: tuple[str, str], server: Endpoint
) -> None:
    with pytest.raises(InputError, match="prune needs a whole folder"):
        summarize_parquet(f"{folders[0]}/day=*/*", folders[1], "body", run=RunOptions(prune=True))
    assert server.stats().requests == 0
