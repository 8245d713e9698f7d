"""A store that fails during a run: no reply is requested twice, and the output is right or absent.

The real S3 server behind a proxy that fails on purpose. ``tests.bench.outages`` has the long forms.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest

from flows.summarize import summarize_parquet
from tasks.core.errors import PipelineError
from tasks.core.options import LimitOptions
from tasks.core.reporting.report import RunReport
from tasks.local.endpoint_control import Endpoint
from tests.conftest import Serve
from tests.core_runs import names, read, write
from tests.faulty_s3_proxy import FaultyProxy, Kind
from tests.prefectserver import wait_until

ROWS, WINDOW = 300, 20
TEXTS = [f"This is row {n}. And more." for n in range(ROWS)]
SUMMARIES = [f"This is row {n}." for n in range(ROWS)]
LEDGER = "/_ledger/[0-9a-f]{32}/"


@pytest.fixture
def llm(endpoint: Serve) -> Endpoint:
    return endpoint(latency_ms=100)


def run(bucket: str, partition_retries: int = 0) -> RunReport:
    limits = LimitOptions(max_concurrent=WINDOW, partition_retries=partition_retries)
    return summarize_parquet(f"{bucket}/in", f"{bucket}/out", "body", limits=limits)


def assert_complete(bucket: str, llm: Endpoint) -> None:
    """Assert that the output is right, no row was requested twice, and no other file is left."""
    output = read(f"{bucket}/out")
    assert output["body"].to_pylist() == TEXTS
    assert output["summary"].to_pylist() == SUMMARIES
    assert (llm.stats().requests, llm.stats().row_requests_max) == (ROWS, 1)
    assert [name for name in names(f"{bucket}/out") if "lease" not in name] == ["part.parquet"]


FOR_A_WHILE = [
    ("503", "PUT", LEDGER, 7),
    ("drop", "PUT", LEDGER, 20),
    ("lose reply", "PUT", LEDGER, 20),
    ("lose reply", "PUT POST", r"/part\.parquet", 3),
    ("503", "PUT POST", r"/part\.parquet", 2),
    ("503", "GET HEAD", "", 4),
    ("lose reply", "POST DELETE", "", 6),
]


@pytest.mark.parametrize(("kind", "methods", "path", "times"), FOR_A_WHILE)
def test_after_a_temporary_failure_of_the_store_the_output_is_right_and_no_request_is_repeated(
    bucket: str, proxy: FaultyProxy, llm: Endpoint, kind: Kind, methods: str, path: str, times: int
) -> None:
    write(f"{bucket}/in", TEXTS)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(run, bucket, partition_retries=1)
        wait_until(lambda: llm.stats().paid > 0)
        fault = proxy.inject(kind, methods, path, times)
        assert running.result().succeeded
    assert fault.met > 0
    assert_complete(bucket, llm)


def test_a_hanging_ledger_does_not_delay_requests(bucket: str, proxy: FaultyProxy, llm: Endpoint) -> None:
    write(f"{bucket}/in", TEXTS)
    fault = proxy.inject("hang", "PUT", LEDGER)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(run, bucket)
        assert fault.reached.wait(60)
        wait_until(lambda: llm.stats().paid == ROWS)
        proxy.heal()
        assert running.result().succeeded
    assert_complete(bucket, llm)


@pytest.mark.parametrize("kind", ["503", "drop", "403"])
def test_after_a_permanent_failure_of_the_store_the_next_run_requests_only_the_remaining_rows(
    bucket: str, proxy: FaultyProxy, llm: Endpoint, kind: Kind
) -> None:
    write(f"{bucket}/in", TEXTS)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(run, bucket)
        wait_until(lambda: llm.stats().paid > ROWS // 2)
        proxy.inject(kind, "PUT POST")
        with pytest.raises(PipelineError):
            running.result()
    proxy.heal()
    assert "part.parquet" not in names(f"{bucket}/out")
    paid = llm.stats().paid
    report = run(bucket)
    assert (report.tally.ok, report.tally.reused) == (ROWS, paid)
    assert_complete(bucket, llm)


def test_a_store_that_fails_while_publishing_keeps_the_old_output_complete(
    bucket: str, proxy: FaultyProxy, llm: Endpoint
) -> None:
    write(f"{bucket}/in", TEXTS[:100])
    assert run(bucket).succeeded
    before = read(f"{bucket}/out")
    write(f"{bucket}/in", TEXTS)
    proxy.inject("drop", "PUT POST", r"/out/part\.parquet")
    with pytest.raises(PipelineError):
        run(bucket)
    assert read(f"{bucket}/out").equals(before)
    proxy.heal()
    assert run(bucket).tally.reused == ROWS
    assert_complete(bucket, llm)
