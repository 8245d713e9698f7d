"""A team's installation: a fresh clone, a Prefect server, what `prefect deploy --all` registers, a worker.

One installation serves all tests of a session, because it takes half a minute to start. Each test uses its
own folder, and waits for the end of the runs it started; tests run one after the other.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fsspec.implementations.local import LocalFileSystem

from tasks.local.endpoint_control import Endpoint
from tests.prefectserver import ROOT, PrefectServer, free_port, wait_until
from tests.source_partitions import partition_table, write_partition

WORKERS_KEY: Final = "canary-key-of-the-worker-5b1e"
BLOCKS_KEY: Final = "canary-key-in-the-block-9c47"
ENDED: Final = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
_RUN_S: Final = 240.0
# Not more often, since the server's only process also serves the runs and the pages.
_POLL_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Installation(PrefectServer):
    """The installation; programs run in its clone with its settings.

    Attributes:
        folder: The folder of all its files.
        endpoint: The deployment of the model.
        bucket: Environment variables of the object store.
    """

    folder: Path = field(kw_only=True)
    endpoint: Endpoint = field(kw_only=True)
    bucket: Mapping[str, str] = field(kw_only=True)

    @property
    def env(self) -> dict[str, str]:
        """The settings of README.md, with shorter polling intervals than Prefect's defaults."""
        return os.environ | {
            "PREFECT_HOME": str(self.home),
            "PREFECT_API_URL": self.url,
            "PREFECT_UI_STATIC_DIRECTORY": str(self.folder / "pages"),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
            # By default 100 runs are scheduled in advance, which keeps a small database busy.
            "PREFECT_SERVER_SERVICES_SCHEDULER_MAX_RUNS": "5",
            "PREFECT_LOGGING_LEVEL": "INFO",
            "AZURE_OPENAI_ENDPOINT": self.endpoint.url,
            "AZURE_OPENAI_DEPLOYMENT": "gpt-4o-mini",
            "AZURE_OPENAI_API_KEY": WORKERS_KEY,
            "TMPDIR": str(self.folder / "tmp"),
            **self.bucket,
        }

    @property
    def page(self) -> str:
        """The address for a browser."""
        return self.url.removesuffix("/api")

    def deployment(self, name: str = "development") -> dict[str, Any]:
        """A deployment, from Prefect's API."""
        found: dict[str, Any] = self.api(f"deployments/name/summarize-parquet/{name}")
        return found

    def start(self, **parameters: object) -> str:
        """Start a run of the development deployment; returns its id."""
        path = f"deployments/{self.deployment()['id']}/create_flow_run"
        return str(self.api(path, {"parameters": parameters})["id"])

    def runs(self, name: str) -> list[dict[str, Any]]:
        """A deployment's runs, in the order they were expected to start."""
        only = {"deployments": {"id": {"any_": [self.deployment(name)["id"]]}}}
        found: list[dict[str, Any]] = self.api(
            "flow_runs/filter", {**only, "sort": "EXPECTED_START_TIME_ASC"}
        )
        return found

    def state(self, run: str) -> dict[str, Any]:
        """A run's state."""
        found: dict[str, Any] = self.api(f"flow_runs/{run}")["state"]
        return found

    def ended(self, run: str) -> dict[str, Any]:
        """Wait for a run's final state."""
        self.until(lambda: self.state(run)["type"] in ENDED)
        return self.state(run)

    def until(self, reached: Callable[[], bool]) -> None:
        """Wait until a condition holds, for the duration of a run or two."""
        wait_until(reached, _RUN_S, _POLL_S)

    def write_source(self, name: str, partitions: int = 2, rows: int = 20) -> dict[str, str]:
        """Write partitions; returns the parameters of a run over them."""
        source = self.folder / "data" / name / "in"
        for number in range(partitions):
            table = partition_table(number, rows)
            write_partition(LocalFileSystem(), f"{source}/part-{number}.parquet", table)
        return {"source": str(source), "destination": str(source.parent / "out"), "text_column": "body"}

    def database(self) -> bytes:
        """The content of Prefect's database, with pending writes."""
        path = self.home / "prefect.db"
        with closing(sqlite3.connect(path, timeout=30)) as connection:
            return connection.serialize()


def clone(folder: Path) -> Path:
    """Copy the files of a fresh clone, so that runs write nothing into the repository."""
    for name in ("flows", "tasks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("prefect.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@contextmanager
def installed(folder: Path, endpoint: Endpoint, bucket: Mapping[str, str]) -> Iterator[Installation]:
    """Start a server with deployments, Secret block and worker, as in README.md."""
    (folder / "tmp").mkdir()
    prefect = Installation(
        free_port(),
        folder / "prefect",
        clone(folder / "clone"),
        folder=folder,
        endpoint=endpoint,
        bucket=bucket,
    )
    with prefect.running():
        prefect.deploy()
        _save_block(prefect, "azure-openai-api-key", BLOCKS_KEY)
        with prefect.worker(folder / "worker.log"):
            yield prefect


def _save_block(prefect: Installation, name: str, value: str) -> None:
    """Save a Secret block, as the form on the Blocks page does."""
    kind = prefect.api("block_types/slug/secret")["id"]
    [schema, *_] = prefect.api("block_schemas/filter", {"block_schemas": {"block_type_id": {"any_": [kind]}}})
    data = {"block_type_id": kind, "block_schema_id": schema["id"], "data": {"value": value}}
    prefect.api("block_documents/", {"name": name, **data})
