"""Enriches files without a model, and asserts that an enriched file is faithful to its source."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.endpoint import Endpoint
from tasks.core.job import Job
from tasks.core.ledger.ledger import Ledger
from tasks.core.model import Outcome, Partition, Status, Text
from tasks.core.parquet.append_writer import Writer
from tasks.core.parquet.output_schema import OutputSchema
from tasks.core.parquet.reader import Reader
from tasks.core.parquet.text_column import TextColumn
from tasks.core.partition import summarize_partition
from tasks.core.prompt import Prompt, Request
from tasks.core.reporting.report import PartitionReport
from tasks.core.rows.batch import OnRow, Row
from tasks.core.rows.requester import RowService, WaitForOutcomes
from tasks.core.storage.discovery import source_location
from tasks.core.storage.location import locate

COLUMNS = OutputSchema()
FACTS = {"summarize_parquet.summary.fingerprint": "f00d"}
TYPES = [pa.string(), pa.string(), pa.string(), pa.string(), pa.int32(), pa.int32()]

REQUEST = Request(model="m", prompt=Prompt("p"), temperature=0, max_output_tokens=9)
ENDPOINTS = (Endpoint(url="https://x.openai.azure.com", deployment="d", api_version="v"),)


def job_of(source: str, destination: str, prefix: str = "summary") -> Job:
    """A job that summarizes the column ``text``."""
    return Job(
        pattern=source,
        source=source_location(source),
        destination=locate(destination),
        text_column="text",
        columns=OutputSchema(prefix),
        request=REQUEST,
        endpoints=ENDPOINTS,
    )


def outcome_of(text: Text) -> Outcome:
    """An outcome whose summary contains the text."""
    if text is None:
        return Outcome(Status.EMPTY)
    if isinstance(text, bytes):
        return Outcome(Status.FAILED, error="the text is not valid UTF-8")
    return Outcome(Status.OK, text=f"of {text}", model="m", prompt_tokens=len(text), completion_tokens=1)


def text_of(row: Row) -> str | None:
    """The text of a row that needs a request; None for other rows."""
    return None if isinstance(row, Outcome) else row.messages[-1][1]


class Echo:
    """A row service whose summaries contain the rows' texts."""

    def begin(self, rows: Iterable[Row], on_row: OnRow) -> WaitForOutcomes:
        """Return a function that computes one outcome per row."""
        return lambda: [self.one(row, place, on_row) for place, row in enumerate(rows)]

    def one(self, row: Row, place: int, on_row: OnRow) -> Outcome:
        """The outcome of one row."""
        outcome = row if isinstance(row, Outcome) else outcome_of(text_of(row))
        on_row(place, outcome)
        return outcome


def run_partition(partition: Partition, job: Job, rows: RowService) -> PartitionReport:
    """Summarize one partition with a new ledger."""
    with Ledger(job.destination, fingerprint=job.request.fingerprint) as ledger:
        return summarize_partition(partition, job, rows, ledger)


def enrich(source: Path, target: Path, column: str = "text") -> list[Text]:
    """Enrich a file; returns its texts."""
    texts: list[Text] = []
    with source.open("rb") as file:
        reader = Reader(file, "part.parquet")
        with Writer(reader.footer, COLUMNS, column, target.parent, "part.parquet") as writer:
            for table in reader.slices([column]):
                read = list(TextColumn(table[column]))
                writer.write(COLUMNS.table([outcome_of(text) for text in read]))
                texts += read
            tail = writer.finish(file, FACTS)
            tail.file.seek(tail.start)
            target.write_bytes(source.read_bytes() + tail.file.read())
    return texts


def assert_faithful(source: Path, target: Path, **how: str) -> None:
    """Assert that the target starts with the source's bytes, and has its data plus the six new columns."""
    assert target.read_bytes().startswith(source.read_bytes())
    with pq.ParquetFile(source, **how) as old, pq.ParquetFile(target, **how) as new:
        _assert_same_layout(old.metadata, new.metadata)
        before, after = old.schema_arrow, new.schema_arrow
        assert list(after)[: len(before)] == list(before)
        assert [field.type for field in list(after)[len(before) :]] == TYPES
        assert after.names[len(before) :] == list(COLUMNS.names)
        facts = {key.encode(): value.encode() for key, value in FACTS.items()}
        assert _metadata(new) == _metadata(old) | facts
        for index in range(old.metadata.num_row_groups):
            was = old.read_row_group(index)
            now = new.read_row_group(index).select(range(len(before)))
            assert same_values(was, now.replace_schema_metadata(was.schema.metadata))


def _metadata(file: pq.ParquetFile) -> dict[bytes, bytes]:
    """The footer's entries except for embedded schemas, which contain the new columns."""
    schemas = {b"ARROW:schema", b"pandas"}
    return {key: value for key, value in (file.metadata.metadata or {}).items() if key not in schemas}


def _assert_same_layout(old: pq.FileMetaData, new: pq.FileMetaData) -> None:
    assert (old.num_row_groups, old.created_by, old.format_version) == (
        new.num_row_groups, new.created_by, new.format_version,
    )  # fmt: skip
    assert (b"ARROW:schema" in (old.metadata or {})) == (b"ARROW:schema" in (new.metadata or {}))
    for index in range(old.num_row_groups):
        was, now = old.row_group(index), new.row_group(index)
        assert (was.num_rows, was.sorting_columns) == (now.num_rows, now.sorting_columns)
        for column in range(old.num_columns):
            assert was.column(column).to_dict() == now.column(column).to_dict()


def same_values(one: pa.Table, other: pa.Table) -> bool:
    """Whether two tables are equal, metadata included; columns with NaN are compared by their ``repr``."""
    same_schema = one.schema.equals(other.schema, check_metadata=True)
    return same_schema and all(map(_same_column, one.columns, other.columns))


def _same_column(one: pa.ChunkedArray, other: pa.ChunkedArray) -> bool:
    return one.equals(other) or (
        "nan" in (shown := repr(one.to_pylist())) and shown == repr(other.to_pylist())
    )
