"""Earlier outputs in the destination: how each was made, and its rows that are paid for.

All is found by name, in the entries of the footer. The rows are a source of reuse, as the ledger is. Whether
an output is finished work is decided in ``standing``.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.errors import PartitionError
from tasks.core.files.columns import SummaryColumns
from tasks.core.files.reader import Reader
from tasks.core.files.texts import TextColumn
from tasks.core.footer.footer import Footer
from tasks.core.job import (
    APPENDED,
    FAILED_ROWS,
    FINGERPRINT,
    FORMAT,
    SOURCE_SIZE,
    TEXT_COLUMN,
    Job,
    fact_of,
)
from tasks.core.model import Status
from tasks.core.paid import segment
from tasks.core.store import reading, storage
from tasks.core.store.storage import Found

logger = logging.getLogger(__name__)

_ANSWERED = pa.array([status.value for status in Status if status.is_answered])


@dataclass(frozen=True, slots=True)
class Made:
    """How an output was made, by its last enrichment.

    Attributes:
        columns: What was added.
        facts: The entries of its footer.
    """

    columns: SummaryColumns
    facts: Mapping[str, str]

    @classmethod
    def of(cls, footer: Footer) -> "Made | None":
        """What a footer says; None when this program did not make the file."""
        facts: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for key, value in footer.entries:
            if (named := fact_of(key)) and value is not None:
                prefix, fact = named
                facts[prefix][fact] = value.decode(errors="replace")
        made = [cls(SummaryColumns(prefix), some) for prefix, some in facts.items() if FAILED_ROWS in some]
        # A source may be an output itself, of an enrichment under another prefix.
        return max(made, key=lambda one: (one.source_bytes or 0, one.last_place(footer)), default=None)

    def last_place(self, footer: Footer) -> int:
        """How far behind the other columns its own are; -1 when they are not all there."""
        names = self.columns.names
        return footer.names.index(names[-1]) if set(names) <= set(footer.names) else -1

    def fact(self, name: str) -> str:
        """A fact; empty when the output does not have it."""
        return self.facts.get(name, "")

    @property
    def source_bytes(self) -> int | None:
        """How many bytes of the output are its source's; None for one that was written anew."""
        size = self.fact(SOURCE_SIZE)
        return int(size) if self.fact(FORMAT) == APPENDED and size.isdecimal() else None

    def is_intact(self, footer: Footer) -> bool:
        """Whether the new columns stand where they were appended: nobody wrote the file again since."""
        if not self.fact(FORMAT):
            return True
        if self.source_bytes is None or not set(self.columns.names) <= set(footer.names):
            return False
        starts = [chunk.start for name in self.columns.names for chunk in footer.chunks(name)]
        return min(starts, default=self.source_bytes) == self.source_bytes


def find(partition_key: str, job: Job) -> Found | None:
    """A partition's earlier output; None when there is none.

    Raises:
        StorageError: The store does not answer.
    """
    return storage.found_at(job.destination, job.destination.path(partition_key))


def paid_rows(output: Found | None, partition_key: str, job: Job) -> pa.Table:
    """What an earlier output holds for this request: a table of ``segment.SCHEMA``.

    Raises:
        StorageError: The store does not answer.
    """
    return _read(output, partition_key, job, _paid_rows)


def completion_tokens(output: Found | None, partition_key: str, job: Job) -> pa.ChunkedArray:
    """The completion tokens of an earlier output's first rows, null where none were billed.

    Raises:
        StorageError: The store does not answer.
    """
    return _read(output, partition_key, job, _first_paid_rows)["completion_tokens"]


def _read(
    output: Found | None, partition_key: str, job: Job, read: Callable[[Reader, Made, Job], pa.Table]
) -> pa.Table:
    """What is read of an earlier output; nothing when there is none, or none that can be read."""
    if output is None:
        return segment.NOTHING
    with reading.open_to_read(job.destination, output) as file:
        try:
            reader = Reader(file, partition_key)
            made = Made.of(reader.footer)
            if made is None or made.fact(FINGERPRINT) != job.request.fingerprint:
                return segment.NOTHING
            return read(reader, made, job)
        except PartitionError as error:
            logger.warning("The earlier output is of no use: %s", error)
            return segment.NOTHING


def _first_paid_rows(reader: Reader, made: Made, job: Job) -> pa.Table:  # noqa: ARG001 - as _paid_rows
    column = made.columns.names[-1]
    if column not in reader.footer.names:
        return segment.NOTHING
    tables = [segment.NOTHING.select(["completion_tokens"])]
    tables += [table.rename_columns(["completion_tokens"]) for table in reader.slices([column], [0])]
    return pa.concat_tables(tables)


def _paid_rows(reader: Reader, made: Made, job: Job) -> pa.Table:
    # The prefix may be another one: the answers are the same.
    names = [made.fact(TEXT_COLUMN), *made.columns.names]
    if not set(names) <= set(reader.footer.names):
        return segment.NOTHING
    return pa.concat_tables(
        [segment.NOTHING, *(_answered(rows, names, job) for rows in reader.slices(names))]
    )


def _answered(rows: pa.Table, names: Sequence[str], job: Job) -> pa.Table:
    """The rows that have a final answer, under their keys."""
    text_column, *columns = names
    keys = pa.array(job.request.row_keys(TextColumn(rows[text_column])), segment.KEY)
    status = rows[columns[1]]
    kept = pc.and_(pc.is_in(status, _ANSWERED), keys.is_valid())
    values = _in_segment_order(rows, columns)
    return pa.Table.from_arrays([keys, *values], schema=segment.SCHEMA).filter(kept)


def _in_segment_order(rows: pa.Table, columns: Sequence[str]) -> list[pa.ChunkedArray]:
    """Summary columns in the order and with the types of a segment, which has the status first."""
    text, status, *rest = columns
    return [
        rows[name].cast(segment.SCHEMA.field(index).type)
        for index, name in enumerate([status, text, *rest], start=1)
    ]
