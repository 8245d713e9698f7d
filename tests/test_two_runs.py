"""Two whole runs started together on one destination."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prefect import flow

from flows.summarize import summarize_parquet
from tasks.core.errors import LeaseError, LostLeaseError
from tasks.core.lease.lease import Lease, LeaseTiming
from tasks.core.lease.lease_file import LeaseFiles, LeaseRecord
from tasks.core.options import LimitOptions
from tasks.core.process_identity import ProcessIdentity
from tasks.core.reporting.report import RunReport
from tasks.core.storage.location import locate
from tests.conftest import Serve
from tests.core_runs import names, read, segments_in, write

ROWS, WINDOW = 300, 10


def run(folder: str) -> RunReport | LeaseError:
    try:
        return summarize_parquet(
            f"{folder}/in", f"{folder}/out", "body", limits=LimitOptions(max_concurrent=WINDOW)
        )
    except LeaseError as error:
        return error


@flow
def nothing() -> None:
    """Starts Prefect's server; two flows at once would start two, and leave one behind."""


@pytest.fixture(scope="module", autouse=True)
def _server_started() -> None:
    nothing()


@pytest.mark.parametrize("store", ["local", "s3"])
def test_of_two_runs_started_together_one_does_all_the_work_and_the_other_is_refused(
    request: pytest.FixtureRequest, endpoint: Serve, tmp_path: Path, store: str
) -> None:
    # Six seconds of work, so that both are there at once however unevenly they start.
    server = endpoint(latency_ms=200)
    folder = str(tmp_path) if store == "local" else request.getfixturevalue("bucket")
    texts = [f"This is row {n}. And more." for n in range(ROWS)]
    write(f"{folder}/in", texts)
    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(run, [folder, folder]))
    (report,) = (end for end in ends if isinstance(end, RunReport))
    (refusal,) = (end for end in ends if isinstance(end, LeaseError))
    assert "Another run works on" in str(refusal)
    assert report.succeeded
    assert server.stats().requests == ROWS
    output = read(f"{folder}/out")
    assert output["body"].to_pylist() == texts
    assert all(map(str.startswith, output["summary"].to_pylist(), [f"This is row {n}." for n in range(ROWS)]))
    assert sorted(names(f"{folder}/out")) == ["_ledger/lease-000001.json", "part.parquet"]


def test_a_run_whose_lease_is_taken_over_sends_no_further_request_and_keeps_what_it_paid_for(
    endpoint: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tasks.core.run.run.Lease",
        lambda place: Lease(place, timing=LeaseTiming(renew_s=0.1, expires_s=30.0)),
    )
    server = endpoint(latency_ms=200)
    write(f"{tmp_path}/in", [f"This is row {n}. And more." for n in range(ROWS)])
    files = LeaseFiles(locate(f"{tmp_path}/out"))
    record = LeaseRecord(
        owner=ProcessIdentity("other-host", "", 7, ""), run="other", since="now", expires_s=0.1
    )
    with ThreadPoolExecutor() as pool:
        running = pool.submit(run, str(tmp_path))
        while not server.stats().paid:
            threading.Event().wait(0.01)
        assert files.create(2, record)
        with pytest.raises(LostLeaseError, match="taken over"):
            running.result()
    stopped_at = server.stats()
    assert stopped_at.requests < ROWS
    assert "part.parquet" not in names(f"{tmp_path}/out")
    kept = sum(len(table) for table in segments_in(f"{tmp_path}/out"))
    assert kept == stopped_at.paid
