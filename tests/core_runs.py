"""Runs without Prefect, for tests that count requests, with helpers to write sources and to list outputs."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.errors import DeploymentError, PartitionError
from tasks.core.job import Job, prepare
from tasks.core.ledger import segment_format
from tasks.core.ledger.ledger import Ledger
from tasks.core.options import LimitOptions, ModelOptions, OutputOptions
from tasks.core.partition import summarize_partition
from tasks.core.planning.partition_status import inspect_source
from tasks.core.planning.plan import Reason
from tasks.core.planning.preflight import preflight
from tasks.core.reporting.report import PartitionReport
from tasks.core.reporting.tally import Tally
from tasks.core.rows.gateway_factory import open_gateway
from tasks.core.run.spec import RunSpec
from tasks.core.settings import Settings
from tasks.core.storage import stored_files
from tasks.core.storage.location import locate

WINDOW = 20
LIMITS = LimitOptions(max_concurrent=WINDOW, max_attempts=2)


def job_of(
    source: str,
    destination: str,
    prompt: str = "Summarize.",
    prefix: str = "summary",
    max_output_tokens: int = 256,
) -> Job:
    return prepare(
        source,
        destination,
        "body",
        prompt=prompt,
        model=ModelOptions(max_output_tokens=max_output_tokens),
        output=OutputOptions(column_prefix=prefix, max_failed_fraction=1.0),
        settings=Settings.from_environment(),
    )


def spec_of(source: str, destination: str, prompt: str = "Summarize.") -> RunSpec:
    """The same job, for runs that begin with a spec."""
    output = OutputOptions(max_failed_fraction=1.0)
    return RunSpec(
        source=source,
        destination=destination,
        text_column="body",
        prompt=prompt,
        limits=LIMITS,
        output=output,
    )


def ledger_of(job: Job) -> Ledger:
    request = job.request
    return Ledger(job.destination, fingerprint=request.fingerprint, earlier=job.earlier)


def run(source: str, destination: str, **how: Any) -> list[PartitionReport]:
    """Summarize all partitions that are not finished, up to eight at once."""
    job = job_of(source, destination, **how)
    with (
        ledger_of(job) as ledger,
        ThreadPoolExecutor(8) as pool,
        open_gateway(Settings.from_environment(), job.request, LIMITS) as gateway,
    ):
        status = inspect_source(job)
        ledger.sweep([partition.key for partition in status.partitions(Reason.FINISHED)])
        plan = preflight(status.selected, job)
        started = [
            pool.submit(summarize_partition, partition, job, gateway, ledger) for partition in plan.partitions
        ]
        return [partition.result() for partition in started]


def tally(source: str, destination: str, **how: Any) -> Tally:
    return sum((report.tally for report in run(source, destination, **how)), Tally())


def segments_in(destination: str) -> list[pa.Table]:
    """All intact segments of all partitions in a destination's ledger."""
    place, tables = locate(destination), []
    for file in stored_files.list_files(place, place.path("_ledger")):
        digest = file.path.rpartition("-")[2].partition(".")[0]
        with suppress(PartitionError):
            tables.append(segment_format.decode(place.fs.cat_file(file.path), digest))
    return tables


def texts(rows: int) -> list[str | None]:
    """A different text for each row."""
    return [f"This is row {n}. And more." for n in range(rows)]


def interrupt(folders: tuple[str, str], rows: int) -> set[bytes]:
    """Run until the reply 401 to an additional row stops the run; returns the keys of paid rows."""
    write(folders[0], [*texts(rows), "A text. [[fault:unauthorized]]"])
    with pytest.raises(DeploymentError):
        run(*folders)
    write(folders[0], texts(rows))
    return {key for table in segments_in(folders[1]) for key in table["key"].to_pylist()}


def write(folder: str, texts: Sequence[str | None], key: str = "part.parquet") -> None:
    """Write one partition with row groups of 250 rows."""
    place = locate(folder)
    table = pa.table({"id": range(len(texts)), "body": pa.array(texts, pa.string())})
    place.fs.makedirs(place.path(key).rpartition("/")[0], exist_ok=True)
    with place.fs.open(place.path(key), "wb") as file:
        pq.write_table(table, file, row_group_size=250)


def read(folder: str, key: str = "part.parquet") -> pa.Table:
    """Read an output without its footer's metadata, which depends on the time of the source."""
    place = locate(folder)
    with place.fs.open(place.path(key), "rb") as file:
        table: pa.Table = pq.ParquetFile(file).read()
    return table.replace_schema_metadata(None)


def names(folder: str) -> list[str]:
    """Keys of all files except for reports."""
    place = locate(folder)
    keys = [file.path.removeprefix(place.path("")) for file in stored_files.list_files(place, place.root)]
    return [key for key in keys if not key.startswith("_reports/")]
