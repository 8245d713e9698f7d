"""The way a team runs it: a Prefect server, `prefect deploy --all`, a process worker, a run."""

import shutil
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem

from tests.conftest import Serve
from tests.prefectserver import DEPLOYMENT, ROOT, PrefectServer, free_port
from tests.tables import partition_table, read, write_partition


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What a fresh clone holds, so that nothing is written into this one."""
    folder = tmp_path / "checkout"
    for name in ("flows", "tasks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("prefect.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def test_a_worker_runs_what_prefect_deploy_all_registered(
    endpoint: Serve, tmp_path: Path, checkout: Path
) -> None:
    llm, prefect = endpoint(), PrefectServer(free_port(), tmp_path / "prefect", cwd=checkout)
    write_partition(LocalFileSystem(), f"{tmp_path}/in/a=1/x.parquet", partition_table(0, 20))
    parameters = {"source": f"{tmp_path}/in", "destination": f"{tmp_path}/out", "text_column": "body"}
    flags = [flag for name, value in parameters.items() for flag in ("-p", f"{name}={value}")]
    with prefect.running():
        prefect.deploy()
        with prefect.worker():
            told = prefect.command("deployment", "run", DEPLOYMENT, *flags, "--watch")
    assert "Completed" in told
    assert llm.stats().requests == 18
    assert read(LocalFileSystem(), f"{tmp_path}/out/a=1/x.parquet").metadata.num_rows == 20
