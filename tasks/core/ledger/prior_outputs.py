"""Earlier outputs in the destination: how each was made, and its rows that are paid for.

All is found by name, in the entries of the footer. The rows are a source of reuse, as the ledger is. Whether
an output is finished work is decided in ``standing``.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.errors import PartitionError
from tasks.core.formats import FORMAT, PROGRAM, check_format, is_readable
from tasks.core.job import (
    FAILED_ROWS,
    FINGERPRINT,
    MAX_OUTPUT_TOKENS,
    OUTPUT_FORMAT,
    SOURCE_SIZE,
    STATUSES,
    TEXT_COLUMN,
    TRUNCATED_AT,
    Job,
    fact_of,
)
from tasks.core.ledger import segment_format
from tasks.core.model import Status
from tasks.core.parquet.footer import Footer
from tasks.core.parquet.reader import Reader
from tasks.core.parquet.summary_columns import SummaryColumns
from tasks.core.parquet.text_column import TextColumn
from tasks.core.storage import reading, stored_files
from tasks.core.storage.stored_files import StoredFile

logger = logging.getLogger(__name__)

_FACTS = ("text", "status", "error", "model", "prompt_tokens", "completion_tokens")

_NOT_ANSWERED = pa.array([status.value for status in Status if not status.is_answered])


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
        made = [
            cls(SummaryColumns(prefix), some)
            for prefix, some in facts.items()
            if {FAILED_ROWS, FORMAT} & some.keys()
        ]
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
        return int(size) if self.fact(FORMAT) and size.isdecimal() else None

    @property
    def is_readable(self) -> bool:
        """Whether its format is known."""
        return is_readable(self.fact(FORMAT), OUTPUT_FORMAT)

    def check(self, where: str) -> None:
        """Refuse an output of a later version that cannot be understood.

        Raises:
            InputError: Its format is too new.
        """
        check_format(self.fact(FORMAT), OUTPUT_FORMAT, self.fact(PROGRAM), where)

    def is_intact(self, footer: Footer) -> bool:
        """Whether the new columns stand where they were appended: no other program wrote the file since."""
        if not self.fact(FORMAT):
            return True
        size = self.source_bytes
        if size is None or not set(self.columns.names) <= set(footer.names):
            return False
        # A later version may have appended a column more.
        appended = [name for name in footer.names if name.startswith(self.columns.prefix)]
        starts = {name: [chunk.start for chunk in footer.chunks(name)] for name in appended}
        own = [start for name in self.columns.names for start in starts[name]]
        others = [start for name in appended for start in starts[name] if start >= size]
        return min(own, default=size) >= size and min(others, default=size) == size

    def limit_of(self, job: Job) -> int | None:
        """The limit under which this output answers a job's request; None when it answers another request."""
        found = self.fact(FINGERPRINT)
        if found == job.request.fingerprint:
            limit = self.fact(MAX_OUTPUT_TOKENS)
            return int(limit) if limit.isdecimal() else job.request.max_output_tokens
        return None if self.fact(FORMAT) == str(OUTPUT_FORMAT) else job.earlier_limit(found)

    def truncated_at(self, job: Job) -> list[int]:
        """The limits under which its truncated rows were answered, in ascending order.

        Before format 3 the run's limit stands for all, and it is not known whether there are such rows.
        """
        counts = _counts(self.fact(TRUNCATED_AT))
        if counts is None:
            limit = self.limit_of(job)
            return [] if limit is None else [limit]
        return sorted(int(limit) for limit in counts if limit.isdecimal())

    @property
    def rows_by_status(self) -> Mapping[str, int]:
        """Its rows by status; empty before format 3."""
        return _counts(self.fact(STATUSES)) or {}


def _counts(fact: str) -> dict[str, int] | None:
    """A JSON object of counts; None for anything else."""
    try:
        counts = json.loads(fact)
    except ValueError:
        return None
    if not isinstance(counts, dict):
        return None
    return {name: count for name, count in counts.items() if isinstance(count, int)}


def find(partition_key: str, job: Job) -> StoredFile | None:
    """A partition's earlier output; None when there is none.

    Raises:
        StorageError: The store does not answer.
    """
    return stored_files.find_file(job.destination, job.destination.path(partition_key))


def paid_rows(output: StoredFile | None, partition_key: str, job: Job) -> pa.Table:
    """What an earlier output holds for this request: a table of ``segment.SCHEMA``.

    Raises:
        StorageError: The store does not answer.
    """
    return _read(output, partition_key, job, _paid_rows)


def completion_tokens(output: StoredFile | None, partition_key: str, job: Job) -> pa.ChunkedArray:
    """The completion tokens of an earlier output's first rows, null where none were billed.

    Raises:
        StorageError: The store does not answer.
    """
    return _read(output, partition_key, job, _first_paid_rows)["completion_tokens"]


def _read(
    output: StoredFile | None, partition_key: str, job: Job, read: Callable[[Reader, Made, Job], pa.Table]
) -> pa.Table:
    """What is read of an earlier output; nothing when there is none, or none that can be read."""
    if output is None:
        return segment_format.NOTHING
    with reading.open_to_read(job.destination, output) as file:
        try:
            reader = Reader(file, partition_key)
            made = Made.of(reader.footer)
            if made is None:
                return segment_format.NOTHING
            made.check(job.destination.url_of(partition_key))
            return segment_format.NOTHING if made.limit_of(job) is None else read(reader, made, job)
        except PartitionError as error:
            logger.warning("The earlier output is of no use: %s", error)
            return segment_format.NOTHING


def _first_paid_rows(reader: Reader, made: Made, job: Job) -> pa.Table:  # noqa: ARG001 - as _paid_rows
    column = made.columns.name_of("completion_tokens")
    if column not in reader.footer.names:
        return segment_format.NOTHING
    tables = [segment_format.NOTHING.select(["completion_tokens"])]
    tables += [table.rename_columns(["completion_tokens"]) for table in reader.slices([column], [0])]
    return pa.concat_tables(tables)


def _paid_rows(reader: Reader, made: Made, job: Job) -> pa.Table:
    # The prefix may be another one: the answers are the same.
    facts = [fact for fact in _FACTS if made.columns.name_of(fact) in reader.footer.names]
    text_column = made.fact(TEXT_COLUMN)
    if "status" not in facts or text_column not in reader.footer.names:
        return segment_format.NOTHING
    names = [text_column, *(made.columns.name_of(fact) for fact in facts)]
    limits = made.truncated_at(job)
    tables = [_answered(rows, facts, limits, job) for rows in reader.slices(names)]
    return pa.concat_tables([segment_format.NOTHING, *tables])


def _answered(rows: pa.Table, facts: Sequence[str], limits: Sequence[int], job: Job) -> pa.Table:
    """The rows that have a final answer, under their keys.

    Args:
        rows: The text column, then the summary columns.
        facts: What each of the latter holds.
        limits: Under which truncated rows were answered.
        job: What is asked for.
    """
    keys = pa.array(job.request.row_keys(TextColumn(rows.column(0))), segment_format.KEY)
    table = rows.rename_columns(["", *facts]).set_column(0, "key", keys)
    if limits:
        limit = _limits(table, limits)
        table = table.append_column("max_output_tokens", limit)
    is_open = pc.is_in(table["status"], _NOT_ANSWERED)
    kept = pc.and_(pc.invert(is_open), pc.and_(keys.is_valid(), table["status"].is_valid()))
    return segment_format.by_name(table.filter(kept))


def _limits(rows: pa.Table, limits: Sequence[int]) -> pa.ChunkedArray:
    """The limit of each row, were it truncated: the least that its completion tokens do not pass.

    A footer lists the limits of all truncated rows together; in nearly all outputs it is one.
    """
    found = pa.chunked_array([pa.repeat(pa.scalar(limits[-1], pa.int32()), len(rows))])
    if "completion_tokens" in rows.column_names:
        for limit in reversed(limits[:-1]):
            fits = pc.fill_null(pc.less_equal(rows["completion_tokens"], limit), fill_value=False)
            found = pc.if_else(fits, pa.scalar(limit, pa.int32()), found)
    return found
