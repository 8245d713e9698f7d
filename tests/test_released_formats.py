"""Destinations written by released versions: this version requests no row that they paid for.

``tests/data`` has a folder for each release, see its README.md. Everything in it is uploaded under the names
it had, because an output records where its source was and which version of it was read.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.conftest import Serve
from tests.prefectserver import ROOT
from tests.s3server import S3Server
from tests.source_partitions import read

DATA = Path(__file__).parent / "data"
SUMMARY_COLUMNS = [
    "summary",
    *(f"summary_{name}" for name in ("status", "error", "model", "prompt_tokens", "completion_tokens")),
]
STATUS, MODEL = SUMMARY_COLUMNS.index("summary_status"), SUMMARY_COLUMNS.index("summary_model")
# No released destination uses this model name, so it marks the rows that this version requested.
THIS_MODEL = "model-of-this-version"

Row = list[Any]


class Released:
    """A destination as written by a released version, uploaded under its original URL.

    Args:
        folder: The release's folder in ``tests/data``.
        server: Where it is uploaded to.
    """

    def __init__(self, folder: Path, server: S3Server) -> None:
        self.run: dict[str, Any] = json.loads((folder / "run.json").read_text())
        self.paid: dict[str, list[Row | None]] = json.loads((folder / "paid.json").read_text())
        self.fs = server.filesystem()
        self._folder = folder
        self._environment = server.environment | {
            "AZURE_OPENAI_DEPLOYMENT": self.run["deployment"],
            "AZURE_OPENAI_MODEL": self.run["model"],
            "OPENAI_API_VERSION": self.run["api_version"],
        }

    def upload(self) -> None:
        """Upload all files under their original keys."""
        self.fs.mkdir(self.run["bucket"])
        for name in ("source", "destination"):
            for path in (self._folder / name).rglob("*"):
                if path.is_file():
                    key = path.relative_to(self._folder).as_posix()
                    self.fs.pipe_file(f"{self.run['bucket']}/{key}", path.read_bytes())

    def configure(self, name: str, value: str) -> None:
        """Change a setting for the following commands."""
        self._environment[name] = value

    @property
    def finished(self) -> set[str]:
        """Keys of the partitions that need no request."""
        return {key for key, rows in self.paid.items() if None not in rows}

    @property
    def orphaned(self) -> set[str]:
        """Keys of the orphaned outputs."""
        folder = self._folder / "destination"
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet")}
        return {key for key in found - self.paid.keys() if not key.startswith("_")}

    def output(self, key: str) -> bytes:
        """The current output of a partition."""
        data: bytes = self.fs.cat_file(f"{self.run['bucket']}/destination/{key}")
        return data

    def frozen_output(self, key: str) -> bytes:
        """The output of a partition as written by the release."""
        return (self._folder / "destination" / key).read_bytes()

    def texts(self, key: str) -> list[str | None]:
        """The text of each row of a source partition."""
        file = pq.ParquetFile(self._folder / "source" / key)
        texts: list[str | None] = file.read([self.run["text_column"]]).column(0).to_pylist()
        return texts

    def rows(self, key: str) -> list[Row]:
        """The values of each row's summary columns in the output."""
        table = read(self.fs, f"{self.run['bucket']}/destination/{key}").read(SUMMARY_COLUMNS)
        return [list(row.values()) for row in table.select(SUMMARY_COLUMNS).to_pylist()]

    def flows(self, command: str, *flags: str) -> str:
        """Run a command with the settings of the release's runs; returns its output."""
        asked = [
            *(f"s3://{self.run['bucket']}/{name}" for name in ("source", "destination")),
            f"--text-column={self.run['text_column']}",
            f"--prompt={self.run['prompt']}",
            f"--temperature={self.run['temperature']}",
            f"--max-output-tokens={self.run['max_output_tokens']}",
        ]
        ended = subprocess.run(
            [sys.executable, "-m", "flows", command, *asked, *flags],
            cwd=ROOT,
            env=os.environ | self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def plan(self) -> tuple[dict[str, dict[str, Any]], set[str]]:
        """The plan of each partition, by key; and the keys of orphaned outputs."""
        plan = json.loads(self.flows("plan", "--json"))
        return {one["key"]: one for one in plan["partitions"]}, set(plan["gone"])


@pytest.fixture(params=sorted(path.parent.name for path in DATA.glob("*/run.json")))
def released(request: pytest.FixtureRequest, s3_server: S3Server) -> Iterator[Released]:
    one = Released(DATA / request.param, s3_server)
    one.upload()
    yield one
    one.fs.rm(one.run["bucket"], recursive=True)


def test_the_plan_counts_the_rows_paid_for_by_a_released_version(released: Released, endpoint: Serve) -> None:
    llm, (plans, gone) = endpoint(), released.plan()
    assert llm.stats().requests == 0
    assert gone == released.orphaned
    assert {key for key, plan in plans.items() if plan["why"] == "finished"} == released.finished
    for key, rows in released.paid.items():
        empty = sum(row is not None and row[STATUS] == "empty" for row in rows)
        counts = {"rows": len(rows), "empty": empty, "requests": rows.count(None)}
        counts["paid"] = len(rows) - empty - counts["requests"]
        if key in released.finished:
            # Its rows are not read.
            counts |= {"empty": 0, "paid": 0}
        assert {name: plans[key][name] for name in counts} == counts, key


def assert_values(rows: list[Row], paid: list[Row | None], texts: list[str | None]) -> None:
    """Assert that paid rows keep their values, and every other row has a summary of its text."""
    for row, was, text in zip(rows, paid, texts, strict=True):
        if was is not None:
            assert row == was
        else:
            assert (row[STATUS], row[MODEL]) == ("ok", THIS_MODEL)
            # The endpoint replies with the first sentence of the text.
            assert row[0]
            assert row[0] in (text or "")


def test_a_run_requests_only_rows_not_paid_for_by_a_released_version(
    released: Released, endpoint: Serve
) -> None:
    llm = endpoint(model=THIS_MODEL)
    released.flows("run", "--no-prefect")
    for key, paid in released.paid.items():
        requested = [llm.requests_for(text or "") for text in released.texts(key)]
        assert requested == [int(row is None) for row in paid], key
        assert_values(released.rows(key), paid, released.texts(key))
    sent = sum(paid.count(None) for paid in released.paid.values())
    assert llm.stats().requests == sent > 0
    for key in released.finished | released.orphaned:
        assert released.output(key) == released.frozen_output(key), key
    released.flows("run", "--no-prefect")
    assert llm.stats().requests == sent
    assert {plan["why"] for plan in released.plan()[0].values()} == {"finished"}


def test_with_a_larger_limit_all_but_truncated_rows_of_a_released_version_are_reused(
    released: Released, endpoint: Serve
) -> None:
    llm = endpoint()
    released.run["max_output_tokens"] += 1
    plans, _ = released.plan()
    for key in released.finished:
        truncated = sum(row is not None and row[STATUS] == "truncated" for row in released.paid[key])
        assert (plans[key]["why"], plans[key]["requests"]) == ("rows cut at a smaller limit", truncated)
    assert llm.stats().requests == 0


def test_with_another_api_version_rows_of_a_released_version_are_reused(
    released: Released, endpoint: Serve
) -> None:
    llm = endpoint()
    plans, _ = released.plan()
    released.configure("OPENAI_API_VERSION", "2025-04-01-preview")
    again, _ = released.plan()
    assert {key: (plan["why"], plan["requests"], plan["paid"]) for key, plan in again.items()} == {
        key: (plan["why"], plan["requests"], plan["paid"]) for key, plan in plans.items()
    }
    assert llm.stats().requests == 0
