"""Runs that stop on purpose: budget, parked, an endpoint that never answers; each with its own exit code."""

from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem

from flows.__main__ import main
from tasks.summarize import with_retries
from tests.conftest import Serve
from tests.core_runs import write
from tests.source_partitions import partition_table, read, write_partition

LOCAL = LocalFileSystem()
ROWS, ASKED = 200, 180
"""Every tenth row is null."""


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    write_partition(LOCAL, f"{tmp_path}/in/a.parquet", partition_table(0, ROWS // 2))
    write_partition(LOCAL, f"{tmp_path}/in/b.parquet", partition_table(1, ROWS // 2))
    return ["run", f"{tmp_path}/in", f"{tmp_path}/out", "--text-column", "body", "--max-concurrent", "10"]


def outputs(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.glob("out/*.parquet"))


def test_a_budget_of_requests_ends_the_run_with_3_and_the_next_run_pays_for_the_rest_alone(
    endpoint: Serve, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = endpoint(latency_ms=10)
    assert main([*arguments, "--max-requests", "50"]) == 3
    printed = capsys.readouterr()
    assert "Budget exhausted (50 requests)" in printed.err
    assert "50 sent, 50 answered" in printed.out
    assert server.stats().requests == 50
    assert outputs(tmp_path) == []
    assert main(arguments) == 0
    assert server.stats().requests == ASKED
    assert server.stats().row_paid_max == 1
    assert outputs(tmp_path) == ["a.parquet", "b.parquet"]


def test_a_budget_of_500_requests_on_2000_rows_is_kept_and_the_rest_is_paid_once(
    endpoint: Serve, tmp_path: Path
) -> None:
    server = endpoint(latency_ms=20)
    write(f"{tmp_path}/in", [f"This is row {n}. And more." for n in range(2000)])
    run = ["run", f"{tmp_path}/in", f"{tmp_path}/out", "--text-column", "body", "--max-concurrent", "20"]
    assert main([*run, "--max-requests", "500"]) == 3
    assert server.stats().requests == 500
    assert main(run) == 0
    assert (server.stats().requests, server.stats().row_paid_max) == (2000, 1)


def test_a_budget_of_dollars_is_kept_and_printed(
    endpoint: Serve, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    server = endpoint(latency_ms=10)
    prices = ["--input-usd-per-million", "0", "--output-usd-per-million", "1000"]
    # A reply may cost 0.256 dollars at most, and costs about 0.01.
    assert main([*arguments, *prices, "--max-cost-usd", "3"]) == 3
    cost_usd = server.stats().completion_tokens / 1000
    assert 0.3 < cost_usd <= 3
    assert f"{cost_usd:.4f} USD" in capsys.readouterr().out


def test_a_budget_of_dollars_without_a_price_is_refused_before_a_request(
    endpoint: Serve, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = endpoint()
    monkeypatch.setenv("AZURE_OPENAI_MODEL", "unlisted-model")
    assert main([*arguments, "--max-cost-usd", "3"]) == 2
    assert "max_cost_usd needs a price" in capsys.readouterr().err
    assert server.stats().requests == 0


def test_a_wait_of_an_hour_parks_the_run_with_4_and_says_how_long(
    endpoint: Serve, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    server = endpoint(faults={"gpt-4o-mini": "rate-limit-long"})
    assert main(arguments) == 4
    assert "asks to wait 3600 s" in capsys.readouterr().err
    assert server.stats().requests <= 10


def test_a_dead_endpoint_stops_the_run_and_an_earlier_good_output_survives(
    endpoint: Serve, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint()
    assert main(arguments) == 0
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "http://127.0.0.1:9")
    assert main([*arguments, "--prompt", "Another prompt, so that every row is asked again."]) == 1
    statuses = read(LOCAL, f"{tmp_path}/out/a.parquet").read()["summary_status"].to_pylist()
    assert statuses.count("ok") == ASKED // 2


def test_partitions_are_tried_again_later_and_later() -> None:
    assert with_retries(3).retries == 3
    assert with_retries(3).retry_delay_seconds == [5, 10, 20]


def test_the_wait_before_a_retry_of_a_partition_doubles_up_to_five_minutes() -> None:
    task = with_retries(100)
    delays, jitter = task.retry_delay_seconds, task.retry_jitter_factor
    assert isinstance(delays, list)
    assert jitter is not None
    assert task.retries == 100
    assert delays[:4] == [5, 10, 20, 40]
    # Prefect takes the last one for all further retries.
    assert max(delays) * (1 + jitter) == 300
