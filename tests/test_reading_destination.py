"""Readers can read the destination as a folder of Parquet files during a run, after a kill, and afterwards.

Each reader is called as a person would call it on the whole destination. Spark's test is skipped where there
is no Java.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow.dataset
import pytest

from tasks.core.ledger.segment_names import folder_of
from tasks.local.endpoint import serve
from tasks.local.endpoint_config import EndpointConfig
from tests.core_runs import names, write
from tests.prefectserver import ROOT, wait_until

Rows = list[dict[str, Any]]

DAYS, ROWS = 3, 5
HELD = DAYS  # the partition of the last day has a row whose request gets no reply


def with_pyarrow(folder: str) -> Rows:
    rows: Rows = pyarrow.dataset.dataset(folder, partitioning="hive").to_table().to_pylist()
    return rows


def with_duckdb(folder: str) -> Rows:
    with duckdb.connect() as connection:
        found = connection.execute(f"from read_parquet('{folder}/**/*.parquet')")
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def with_polars(folder: str) -> Rows:
    return pl.scan_parquet(f"{folder}/**/*.parquet").collect().to_dicts()


PANDAS = """
import pandas, sys
for folder in map(str.strip, sys.stdin):
    print(pandas.read_parquet(folder).to_json(orient="records"), flush=True)
"""

DATASETS = """
import datasets, json, sys
for folder in map(str.strip, sys.stdin):
    read = datasets.load_dataset("parquet", data_files=f"{folder}/**/*.parquet", cache_dir=sys.argv[1])
    print(json.dumps(read["train"].to_list()), flush=True)
"""

SPARK = """
import json, pyspark.sql, sys
spark = (
    pyspark.sql.SparkSession.builder.master("local[1]")
    .config("spark.ui.enabled", False)
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.driver.extraJavaOptions", "-XX:TieredStopAtLevel=1")
    .config("spark.sql.warehouse.dir", sys.argv[1])
    .getOrCreate()
)
for folder in map(str.strip, sys.stdin):
    rows = [json.loads(row) for row in spark.read.parquet(folder).toJSON().collect()]
    print(json.dumps(rows), flush=True)
spark.stop()
"""


class Program:
    """A reader in another process, since it opens ports or reads its settings when imported.

    The process starts with the first folder and reads the others too, since starting takes seconds.

    Args:
        code: Prints a line of JSON for each folder on a line of standard input.
    """

    def __init__(self, code: str) -> None:
        self._code = code
        self._process: subprocess.Popen[str] | None = None

    def __call__(self, folder: str) -> Rows:
        """Read a destination; returns its rows."""
        process = self._process = self._process or self._start(Path(folder).with_name("scratch"))
        assert process.stdin
        assert process.stdout
        process.stdin.write(f"{folder}\n")
        process.stdin.flush()
        line = process.stdout.readline()
        assert line, "the reader failed; its traceback is in the captured stderr"
        rows: Rows = json.loads(line)
        return rows

    def _start(self, scratch: Path) -> "subprocess.Popen[str]":
        settings = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(scratch), "SPARK_LOCAL_IP": "127.0.0.1"}
        return subprocess.Popen(
            [sys.executable, "-c", self._code, str(scratch)],
            env=os.environ | settings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def end(self) -> None:
        """End the process, if it was started."""
        if self._process:
            self._process.communicate()


PROGRAMS = [
    ("with_pandas", Program(PANDAS)),
    ("with_datasets", Program(DATASETS)),
    ("with_spark", Program(SPARK)),
]
no_java = pytest.mark.skipif(
    shutil.which("java") is None, reason="needs Java: apt-get install default-jre-headless"
)
READERS = [
    *(pytest.param(reader, id=reader.__name__) for reader in (with_pyarrow, with_duckdb, with_polars)),
    *(
        pytest.param(program, id=name, marks=no_java if name == "with_spark" else ())
        for name, program in PROGRAMS
    ),
]


@pytest.fixture(scope="module", autouse=True)
def _programs_end() -> Iterator[None]:
    yield
    for _, program in PROGRAMS:
        program.end()


def command(folder: str) -> list[str]:
    asked = ["run", f"{folder}/in", f"{folder}/out", "--text-column", "body", "--no-prefect"]
    return [sys.executable, "-m", "flows", *asked, "--max-attempts", "1"]


@pytest.fixture(scope="module")
def settings() -> Iterator[dict[str, str]]:
    """A separate endpoint for this module, as environment variables."""
    with serve(EndpointConfig()) as llm:
        own = {
            "AZURE_OPENAI_ENDPOINT": llm.url,
            "AZURE_OPENAI_API_KEY": "k",
            "AZURE_OPENAI_DEPLOYMENT": "gpt-4o-mini",
        }
        yield os.environ | own


@pytest.fixture(scope="module")
def held(
    settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """A destination during a run: two partitions are published, some rows of the third are paid."""
    folder = str(tmp_path_factory.mktemp("held"))
    for day in range(1, DAYS + 1):
        texts = [f"This is row {day}-{n}. And more." for n in range(ROWS)]
        if day == HELD:
            texts[0] += " [[fault:hang:times=1]]"
        write(f"{folder}/in", texts, f"day={day}/part.parquet")
    with subprocess.Popen(command(folder), cwd=ROOT, env=settings, stderr=subprocess.PIPE, text=True) as run:
        try:
            wait_until(lambda: is_in_the_middle(folder) or run.poll() is not None)
            assert run.poll() is None
            yield f"{folder}/out", run
        finally:
            run.kill()


def is_in_the_middle(folder: str) -> bool:
    # Segments of the others may be there too, until soon after they were published.
    held = folder_of(f"day={HELD}/part.parquet")
    kinds = [
        sum(name.endswith("/part.parquet") for name in names(f"{folder}/out")) == DAYS - 1,
        any(name.startswith(held) and name.endswith(".segment") for name in names(f"{folder}/out")),
    ]
    return all(kinds)


@pytest.fixture(scope="module")
def killed(held: tuple[str, "subprocess.Popen[str]"]) -> str:
    """The same after the run was killed, with an unpublished output, as a kill may leave it."""
    out, run = held
    run.kill()
    run.wait()
    unfinished = Path(out, "_aside", f"building-{'0' * 32}.tmp")
    unfinished.parent.mkdir()
    unfinished.write_bytes(Path(out, "day=1", "part.parquet").read_bytes())
    return out


@pytest.fixture(scope="module")
def finished(killed: str, settings: dict[str, str]) -> str:
    """The same after the next run, which removes the leftovers and writes a report."""
    subprocess.run(command(str(Path(killed).parent)), cwd=ROOT, env=settings, check=True, capture_output=True)
    return killed


def assert_reads(read: Callable[[str], Rows], out: str, days: int) -> None:
    told = sorted((row["id"], row["summary"].partition(".")[0]) for row in read(out))
    assert told == sorted((n, f"This is row {day}-{n}") for day in range(1, days + 1) for n in range(ROWS))


def test_only_outputs_end_in_parquet_while_a_run_is_on(held: tuple[str, object]) -> None:
    kept = names(held[0])
    assert [name for name in kept if name.endswith(".parquet")] == [
        f"day={day}/part.parquet" for day in range(1, DAYS)
    ]
    assert "_ledger" in {name.partition("/")[0] for name in kept}


@pytest.mark.parametrize("read", READERS)
def test_a_reader_of_the_whole_destination_sees_published_rows_alone_while_a_run_is_on(
    held: tuple[str, "subprocess.Popen[str]"], read: Callable[[str], Rows]
) -> None:
    assert_reads(read, held[0], DAYS - 1)
    assert held[1].poll() is None
    assert is_in_the_middle(str(Path(held[0]).parent))


@pytest.mark.parametrize("read", READERS[:4])
def test_a_reader_sees_the_same_after_the_run_was_killed(killed: str, read: Callable[[str], Rows]) -> None:
    assert_reads(read, killed, DAYS - 1)


@pytest.mark.parametrize("read", READERS)
def test_a_reader_of_the_whole_destination_sees_all_rows_afterwards(
    finished: str, read: Callable[[str], Rows]
) -> None:
    assert list(Path(finished, "_reports").iterdir())
    assert not list(Path(finished).glob("_aside/*"))
    assert_reads(read, finished, DAYS)
