"""Prefect's server killed in the middle of a run; ``tests.bench.outages`` waits for the end of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.local.endpoint_control import Endpoint
from tests.conftest import Serve
from tests.core_runs import names, read, tally, write
from tests.prefectserver import PrefectServer, free_port, kill_group, process, run_of, wait_until

ROWS = 200
FLAGS = ("--prompt", "Summarize.", "--max-concurrent", "20")


@pytest.fixture
def prefect(prefect_home: Path) -> PrefectServer:
    return PrefectServer(free_port(), prefect_home)


@pytest.fixture
def llm(endpoint: Serve, tmp_path: Path) -> Iterator[Endpoint]:
    llm = endpoint(latency_ms=200)
    write(f"{tmp_path}/in", [f"This is row {n}. And more." for n in range(ROWS)])
    yield llm
    assert read(f"{tmp_path}/out")["summary"].to_pylist() == [f"This is row {n}." for n in range(ROWS)]
    assert tally(f"{tmp_path}/in", f"{tmp_path}/out").requests == 0
    assert llm.stats().requests == ROWS


def test_a_server_that_comes_back_finds_the_run_completed(
    prefect: PrefectServer, llm: Endpoint, tmp_path: Path
) -> None:
    command = run_of(f"{tmp_path}/in", f"{tmp_path}/out", *FLAGS)
    with prefect.running() as server, process(*command, env=prefect.env) as run:
        wait_until(lambda: llm.stats().paid > 40)
        kill_group(server)
        with prefect.running():
            assert run.wait(120) == 0


def test_a_server_that_is_gone_for_good_keeps_no_partition_from_being_published(
    prefect: PrefectServer, llm: Endpoint, tmp_path: Path
) -> None:
    command = run_of(f"{tmp_path}/in", f"{tmp_path}/out", *FLAGS)
    with prefect.running() as server, process(*command, env=prefect.env):
        wait_until(lambda: llm.stats().paid > 40)
        kill_group(server)
        wait_until(lambda: "part.parquet" in names(f"{tmp_path}/out"))
