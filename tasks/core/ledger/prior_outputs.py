"""Prior outputs: replies are read back from a partition's output of an earlier run, as from the ledger.

All is found by name. Whether an output is up to date is decided in ``partition_status``.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.errors import PartitionError
from tasks.core.job import Job
from tasks.core.ledger import segment_format
from tasks.core.model import Status
from tasks.core.output_facts import TEXT_COLUMN, OutputFacts
from tasks.core.parquet.reader import Reader
from tasks.core.parquet.text_column import TextColumn
from tasks.core.storage import reading, stored_files
from tasks.core.storage.stored_files import StoredFile

logger = logging.getLogger(__name__)

_NOT_ANSWERED = pa.array([status.value for status in Status if not status.is_answered])


def find(partition_key: str, job: Job) -> StoredFile | None:
    """A partition's earlier output; None when there is none.

    Raises:
        StorageError: The store does not answer.
    """
    return stored_files.find_file(job.destination, job.destination.path(partition_key))


def paid_rows(output: StoredFile | None, partition_key: str, job: Job) -> Iterator[pa.Table]:
    """The replies to this request in an earlier output, as tables of ``segment_format.SCHEMA``, one a slice.

    Raises:
        StorageError: The store does not answer.
        InputError: The output's format is too new.
    """
    with _opened(output, partition_key, job) as opened:
        if opened is None:
            return
        reader, facts = opened
        # The prefix may be another one: the replies are the same.
        columns = _columns(reader, facts)
        text_column = facts.fact(TEXT_COLUMN)
        if "status" not in columns.values() or text_column not in reader.footer.names:
            return
        limits = facts.truncated_at(job)
        for rows in reader.slices([text_column, *columns]):
            yield _answered(rows.rename_columns(["", *columns.values()]), limits, job)


def completion_tokens(output: StoredFile | None, partition_key: str, job: Job) -> pa.ChunkedArray:
    """The completion tokens of an earlier output's first rows, null where none were billed.

    Raises:
        StorageError: The store does not answer.
    """
    name, chunks = "completion_tokens", list[pa.Array]()
    with _opened(output, partition_key, job) as opened:
        if opened is not None:
            reader, facts = opened
            columns = [one for one, attribute in _columns(reader, facts).items() if attribute == name]
            if columns:
                chunks += [chunk for table in reader.slices(columns, [0]) for chunk in table.column(0).chunks]
    return pa.chunked_array(chunks, segment_format.SCHEMA.field(name).type)


@contextmanager
def _opened(
    output: StoredFile | None, partition_key: str, job: Job
) -> Iterator[tuple[Reader, OutputFacts] | None]:
    """An earlier output's reader and facts; None when there is none that answers this request.

    A damaged output ends the block without an error: what was read of it before counts.
    """
    if output is None:
        yield None
        return
    with reading.open_to_read(job.destination, output) as file:
        opened = None
        with _damage_logged():
            reader = Reader(file, partition_key)
            facts = OutputFacts.of(reader.footer)
            if facts is not None:
                facts.check(job.destination.url_of(partition_key))
                opened = (reader, facts) if facts.limit_of(job) is not None else None
        with _damage_logged():
            yield opened


@contextmanager
def _damage_logged() -> Iterator[None]:
    try:
        yield
    except PartitionError as error:
        logger.warning("The earlier output cannot be read: %s", error)


def _columns(reader: Reader, facts: OutputFacts) -> Mapping[str, str]:
    """The columns of an output that give outcomes back: attribute of an outcome by column name."""
    names = set(reader.footer.names)
    return {name: attribute for name, attribute in facts.columns.restored.items() if name in names}


def _answered(table: pa.Table, limits: Sequence[int], job: Job) -> pa.Table:
    """The rows that have a final answer, under their keys.

    Args:
        table: The text column, then columns named by the attribute of an outcome that they hold.
        limits: Under which truncated rows were answered.
        job: What is requested.
    """
    keys = pa.array(job.request.row_keys(TextColumn(table.column(0))), segment_format.KEY)
    table = table.set_column(0, "key", keys)
    if limits:
        table = table.append_column("max_output_tokens", _limits(table, limits))
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
