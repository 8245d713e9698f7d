"""The examples of README.md, run as they are written there."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from tests.conftest import Serve
from tests.prefect_installation import BLOCKS_KEY, Installation
from tests.prefectserver import ROOT
from tests.s3server import S3Server
from tests.source_partitions import read, write_partition

ROWS = 12
BLOCKS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)


def example(contains: str) -> dict[str, Any]:
    """Run the one example with this in it; returns its names."""
    [source] = [block for block in BLOCKS if contains in block]
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(source, "README.md", "exec"), names)  # noqa: S102 - our own README
    return names


@pytest.fixture
def lake(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """The bucket of the examples, with articles of this test; the function counts summaries of a folder."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    fs = s3_server.filesystem()
    fs.makedirs("lake", exist_ok=True)
    for path in fs.find("lake"):
        fs.rm_file(path)
    for number in range(2):
        texts = [f"Article {number}-{row}. It goes on. And on." for row in range(ROWS)]
        table = pa.table({"id": range(ROWS), "body": texts, "title": [text.upper() for text in texts]})
        write_partition(fs, f"lake/articles/day={number}/a.parquet", table)

    def summaries(folder: str) -> int:
        outputs = [read(fs, f"lake/{folder}/day={number}/a.parquet").read() for number in range(2)]
        return sum(output["summary_status"].to_pylist().count("ok") for output in outputs)

    return summaries


def test_a_flow_calls_it(
    endpoint: Serve, lake: Callable[[str], int], capsys: pytest.CaptureFixture[str]
) -> None:
    llm = endpoint()
    example("def nightly")["nightly"]()
    assert "2 partitions, 24 rows" in capsys.readouterr().out
    assert (lake("summaries"), llm.stats().requests) == (24, 24)


def test_an_async_flow_runs_two_at_once_that_do_not_disturb_each_other(
    endpoint: Serve, lake: Callable[[str], int], capsys: pytest.CaptureFixture[str]
) -> None:
    llm = endpoint(latency_ms=50)
    asyncio.run(example("async def both")["both"]())
    assert capsys.readouterr().out.count("2 partitions, 24 rows: 0 rows and 0 partitions failed") == 2
    assert (lake("summaries-of-bodies"), lake("summaries-of-titles")) == (24, 24)
    assert (llm.stats().requests, llm.stats().row_requests_max) == (48, 1)


def test_a_script_calls_the_summarizer(endpoint: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    llm = endpoint()
    example("parallel_summarize(")
    assert "First text" in capsys.readouterr().out
    assert llm.stats().requests == 2


@pytest.fixture
def production(prefect: Installation, lake: Callable[[str], int]) -> Callable[[str], int]:
    prefect.endpoint.configure(api_key=BLOCKS_KEY, latency_ms=0)
    prefect.endpoint.reset()
    return lake


def test_a_flow_elsewhere_runs_the_deployment_and_reads_its_report(
    prefect: Installation, production: Callable[[str], int], capsys: pytest.CaptureFixture[str]
) -> None:
    with temporary_settings({PREFECT_API_URL: prefect.url}):
        example("run_deployment(")["downstream"]()
    assert production("summaries") == 24
    assert "2 partitions, 24 rows" in capsys.readouterr().out


def test_a_dag_runs_the_deployment_through_the_rest_api_and_hears_why_it_failed(
    prefect: Installation, production: Callable[[str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", prefect.url)
    run_and_wait = example("def run_and_wait")["run_and_wait"]
    addresses = {"source": "s3://lake/articles", "destination": "s3://lake/summaries", "text_column": "body"}
    run = run_and_wait("summarize-parquet/production", **addresses)
    assert prefect.state(run)["type"] == "COMPLETED"
    assert production("summaries") == 24
    with pytest.raises(RuntimeError, match="column 'bodi' is missing"):
        run_and_wait("summarize-parquet/production", **addresses | {"text_column": "bodi"})


@pytest.fixture
def nightly(prefect: Installation, production: Callable[[str], int], tmp_path: Path) -> Callable[[str], int]:
    """The production deployment, its addresses edited as README.md says."""
    edited = tmp_path / "edited"
    shutil.copytree(prefect.cwd, edited, ignore=shutil.ignore_patterns("__pycache__"))
    file = edited / "prefect.yaml"
    file.write_text(file.read_text().replace("YOUR-BUCKET", "lake"))
    replace(prefect, cwd=edited).command("deploy", "--name", "production")
    return production


def installed_apart(package: str, folder: Path) -> Path:
    """Install a scheduler where neither it nor Prefect disturbs the other; returns where its programs are."""
    uv = f"{sysconfig.get_path('scripts')}/uv"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    into = ("--python", folder / "bin" / "python")
    subprocess.run([uv, "pip", "install", "--quiet", *into, package, "httpx"], check=True)
    return folder / "bin"


def written_for(scheduler: str) -> str:
    """The example for a scheduler, below the function it calls."""
    wanted = ("def run_and_wait", f"from {scheduler}", f"import {scheduler}")
    return "".join(block for block in BLOCKS if any(one in block for one in wanted))


@pytest.mark.schedulers
@pytest.mark.timeout(900)
def test_dagster_runs_its_example(
    prefect: Installation, nightly: Callable[[str], int], tmp_path: Path
) -> None:
    programs = installed_apart("dagster==1.13.29", tmp_path / "dagster")
    file = tmp_path / "lake.py"
    file.write_text(f"{written_for('dagster')}\nassert dagster.materialize([summaries]).success\n")
    env = os.environ | {"PREFECT_API_URL": prefect.url, "DAGSTER_HOME": str(tmp_path)}
    subprocess.run([programs / "python", file], env=env, check=True, capture_output=True)
    assert nightly("summaries") == 24


@pytest.mark.schedulers
@pytest.mark.timeout(900)
def test_airflow_runs_its_example(
    prefect: Installation, nightly: Callable[[str], int], tmp_path: Path
) -> None:
    programs = installed_apart("apache-airflow==3.3.2", tmp_path / "airflow")
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "lake.py").write_text(written_for("airflow"))
    env = os.environ | {"PREFECT_API_URL": prefect.url, "AIRFLOW_HOME": str(tmp_path)}
    env["AIRFLOW__CORE__LOAD_EXAMPLES"] = "false"
    for arguments in (["db", "migrate"], ["dags", "test", "lake"]):
        subprocess.run([programs / "airflow", *arguments], env=env, check=True, capture_output=True)
    assert nightly("summaries") == 24


def test_every_example_is_run_here() -> None:
    assert len(BLOCKS) == 7
    assert (ROOT / "README.md").read_text().count("```python") == len(BLOCKS)
