"""A run cancelled through Prefect, as its page does it: a server, a worker, a deployment."""

import time
from pathlib import Path
from typing import Any

import pytest

from tasks.core.lease.lease_file import LeaseFiles
from tasks.core.storage.location import locate
from tasks.local.endpoint_control import Endpoint
from tests.core_runs import names, read, segments_in, tally, write
from tests.prefect_installation import Installation
from tests.prefectserver import PrefectServer, wait_until

ROWS = 400
LATENCY_MS = 1000.0


@pytest.fixture
def llm(prefect: Installation, monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    """The installation's endpoint; runs of this process use it too."""
    prefect.endpoint.configure(api_key=None, latency_ms=LATENCY_MS)
    prefect.endpoint.reset()
    for name in ("ENDPOINT", "API_KEY", "DEPLOYMENT"):
        monkeypatch.setenv(f"AZURE_OPENAI_{name}", prefect.env[f"AZURE_OPENAI_{name}"])
    return prefect.endpoint


def state_of(server: PrefectServer, run: str) -> object:
    return server.api(f"flow_runs/{run}")["state_type"]


def log_of(server: PrefectServer, run: str) -> list[str]:
    lines: Any = server.api("logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}})
    return [line["message"] for line in lines]


@pytest.mark.parametrize("store", ["local", "s3"])
def test_a_run_cancelled_on_the_page_ends_soon_and_everything_answered_is_kept(
    request: pytest.FixtureRequest, llm: Endpoint, tmp_path: Path, prefect: Installation, store: str
) -> None:
    folder = str(tmp_path) if store == "local" else request.getfixturevalue("bucket")
    texts = [f"This is row {n}. And more." for n in range(ROWS)]
    write(f"{folder}/in", texts)
    parameters = {
        "source": f"{folder}/in",
        "destination": f"{folder}/out",
        "text_column": "body",
        "prompt": "Summarize.",
        "limits": {"max_concurrent": 20},
    }
    run = prefect.start(**parameters)
    wait_until(lambda: llm.stats().paid >= 60)
    asked_s = time.monotonic()
    prefect.api(f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
    files = LeaseFiles(locate(f"{folder}/out"))
    wait_until(lambda: (latest := files.latest().record) is not None and latest.released)
    took_s = time.monotonic() - asked_s
    # The worker looks every three seconds whether the process has ended.
    wait_until(lambda: state_of(prefect, run) == "CANCELLED", every_s=0.25)
    assert "Interrupted: received replies are kept; run again to continue" in log_of(prefect, run)
    stopped_at = llm.stats()
    kept = sum(map(len, segments_in(f"{folder}/out")))
    assert kept == stopped_at.paid
    assert took_s <= 5 + LATENCY_MS / 1000
    assert "part.parquet" not in names(f"{folder}/out")
    llm.configure(latency_ms=1.0)
    counted = tally(f"{folder}/in", f"{folder}/out")
    assert (counted.ok, counted.reused) == (ROWS, kept)
    assert llm.stats().paid == ROWS
    assert read(f"{folder}/out")["summary"].to_pylist() == [f"This is row {n}." for n in range(ROWS)]
