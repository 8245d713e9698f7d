"""As a team runs it: a Prefect server, `prefect deploy --all`, a process worker, a schedule, a run."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.core.errors import SettingsError
from tasks.core.lease.lease import Lease
from tasks.core.storage.location import locate
from tasks.credentials import run_settings
from tests.prefect_installation import BLOCKS_KEY, Installation
from tests.prefectserver import DEPLOYMENT
from tests.source_partitions import read


@pytest.fixture(autouse=True)
def plain_endpoint(prefect: Installation) -> None:
    prefect.endpoint.configure(api_key=None, latency_ms=0)
    prefect.endpoint.reset()


def production_every_20_seconds(prefect: Installation, folder: Path, **parameters: str) -> Path:
    """Another clone, whose production deployment was edited."""
    shutil.copytree(prefect.cwd, folder, ignore=shutil.ignore_patterns("__pycache__"))
    file = folder / "prefect.yaml"
    content = file.read_text()
    for before, after in (
        ("0 1 * * *", "* * * * * */20"),
        ("s3://YOUR-BUCKET/articles", parameters["source"]),
        ("s3://YOUR-BUCKET/summaries", parameters["destination"]),
        ("max_cost_usd: 100", "max_concurrent: 2"),
    ):
        assert content.count(before) == 1
        content = content.replace(before, after)
    file.write_text(content)
    return folder


def test_a_worker_runs_what_prefect_deploy_all_registered(prefect: Installation) -> None:
    parameters = prefect.write_source("deployed")
    flags = [flag for name, value in parameters.items() for flag in ("-p", f"{name}={value}")]
    reported = prefect.command("deployment", "run", DEPLOYMENT, *flags, "--watch")
    assert "Completed" in reported
    assert prefect.endpoint.stats().requests == 36
    assert read(LocalFileSystem(), f"{parameters['destination']}/part-1.parquet").metadata.num_rows == 20


def test_a_scheduled_run_fires_with_the_blocks_key_and_the_next_one_is_cancelled_while_it_runs(
    prefect: Installation, tmp_path: Path
) -> None:
    prefect.endpoint.configure(api_key=BLOCKS_KEY, latency_ms=3000)
    edited = production_every_20_seconds(
        prefect, tmp_path / "edited", **prefect.write_source("nightly", 1, 20)
    )
    replace(prefect, cwd=edited).command("deploy", "--name", "production")
    schedule = f"deployments/{prefect.deployment('production')['id']}/schedules"
    [nightly] = prefect.api(schedule)
    try:
        assert (nightly["slug"], nightly["schedule"]["timezone"]) == ("nightly", "UTC")
        prefect.until(lambda: any(run["state"]["type"] == "CANCELLED" for run in prefect.runs("production")))
    finally:
        # What pausing a schedule on the deployment's page does.
        prefect.api(f"{schedule}/{nightly['id']}", {"active": False}, "PATCH")
        # The first run had to be slow only until the second one was cancelled.
        prefect.endpoint.configure(latency_ms=0)
    runs = prefect.runs("production")
    cancelled = [run["state"]["message"] for run in runs if run["state"]["type"] == "CANCELLED"]
    assert set(cancelled) == {"Deployment concurrency limit reached."}
    first = next(run for run in runs if run["state"]["type"] in {"PENDING", "RUNNING", "COMPLETED"})
    assert prefect.ended(first["id"])["type"] == "COMPLETED"
    assert prefect.endpoint.stats().row_paid_max == 1
    assert "auto-scheduled" in first["tags"]
    waiting = [run for run in prefect.runs("production") if run["state"]["type"] == "SCHEDULED"]
    assert waiting == []


def test_a_run_that_finds_another_one_at_work_is_cancelled_and_not_failed(prefect: Installation) -> None:
    parameters = prefect.write_source("overlapping", 1, 20)
    with Lease(locate(parameters["destination"])):
        state = prefect.ended(prefect.start(**parameters))
    assert (state["type"], state["name"]) == ("CANCELLED", "Overlap")
    assert state["message"].startswith("Another run works on ")
    assert prefect.endpoint.stats().requests == 0
    assert prefect.ended(prefect.start(**parameters))["type"] == "COMPLETED"


def test_retrying_a_failed_run_from_its_page_goes_on_and_pays_for_nothing_twice(
    prefect: Installation,
) -> None:
    run = prefect.start(
        **prefect.write_source("retried", 1, 20), limits={"max_requests": 12, "max_concurrent": 4}
    )
    assert prefect.ended(run)["type"] == "FAILED"
    assert prefect.endpoint.stats().requests == 12
    # What the Retry button sends.
    retry = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"}
    prefect.api(f"flow_runs/{run}/set_state", {"state": retry})
    prefect.until(lambda: prefect.api(f"flow_runs/{run}")["run_count"] == 2)
    assert prefect.ended(run)["type"] == "COMPLETED"
    stats = prefect.endpoint.stats()
    assert (stats.requests, stats.row_paid_max) == (18, 1)


def test_a_secret_block_that_is_not_there_is_told_by_its_name(
    prefect: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", prefect.endpoint.url)
    monkeypatch.setenv("AZURE_OPENAI_DEPLOYMENT", "d")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY_BLOCK", "nowhere")
    with (
        temporary_settings({PREFECT_API_URL: prefect.url}),
        pytest.raises(SettingsError, match="'nowhere'"),
    ):
        run_settings()
