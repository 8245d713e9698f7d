"""What earlier outputs in the destination are worth: their rows with a final answer are paid for.

So they are a source of reuse, as the ledger is. Whether an output is finished work is ``standing``'s to tell.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.errors import PartitionError
from tasks.core.files import parquet
from tasks.core.files.columns import SummaryColumns
from tasks.core.files.footer import Footer
from tasks.core.job import FINGERPRINT, TEXT_COLUMN, Job, fact_key
from tasks.core.model import Status
from tasks.core.paid import segment
from tasks.core.store import storage
from tasks.core.store.failures import failures_of

logger = logging.getLogger(__name__)

_ANSWERED = pa.array([status.value for status in Status if status.is_answered])


def told(footer: Footer, fact: str) -> str:
    """What an output tells of how it was made, it and not its source; empty when it tells nothing."""
    columns = SummaryColumns.last_of(footer.schema)
    return footer.told(fact_key(columns.prefix, fact)) if columns else ""


def paid_rows(partition_key: str, job: Job) -> pa.Table:
    """What a partition's earlier output holds for this request: a table of ``segment.SCHEMA``.

    Raises:
        StorageError: The store does not answer.
    """
    return _read(partition_key, job, _paid_rows)


def completion_tokens(partition_key: str, job: Job) -> pa.ChunkedArray:
    """The completion tokens of an earlier output's first rows, null where none were billed.

    Raises:
        StorageError: The store does not answer.
    """
    return _read(partition_key, job, _first_paid_rows)["completion_tokens"]


def _read(partition_key: str, job: Job, read: Callable[[parquet.Reader, Job], pa.Table]) -> pa.Table:
    """What is read of an earlier output; nothing when there is none, or none that can be read."""
    path = job.destination.path(partition_key)
    if all(file.path != path for file in storage.find(job.destination, path)):
        return segment.NOTHING
    reading = partial(failures_of, job.destination.url, partition_key)
    with storage.open_to_read(job.destination, path) as file, reading():
        try:
            return read(parquet.Reader(file, partition_key), job)
        except PartitionError as error:
            logger.warning("The earlier output is of no use: %s", error)
            return segment.NOTHING


def _first_paid_rows(reader: parquet.Reader, job: Job) -> pa.Table:
    footer = reader.footer
    if told(footer, FINGERPRINT) != job.request.fingerprint or not footer.row_groups:
        return segment.NOTHING
    return reader.row_group(0, [footer.schema.names[-1]]).rename_columns(["completion_tokens"])


def _paid_rows(reader: parquet.Reader, job: Job) -> pa.Table:
    footer = reader.footer
    columns = SummaryColumns.last_of(footer.schema)
    if columns is None or told(footer, FINGERPRINT) != job.request.fingerprint:
        return segment.NOTHING
    # The prefix may be another one: the answers are the same.
    names = [told(footer, TEXT_COLUMN), *columns.names]
    if names[0] not in footer.schema.names:
        return segment.NOTHING
    groups = (reader.row_group(index, names) for index in range(len(footer.row_groups)))
    return pa.concat_tables([segment.NOTHING, *(_answered(group, names, job) for group in groups)])


def _answered(group: pa.Table, names: Sequence[str], job: Job) -> pa.Table:
    """The rows of a row group that have a final answer, under their keys."""
    text_column, *columns = names
    keys = pa.array(job.request.row_keys(parquet.TextColumn(group[text_column])), segment.KEY)
    status = group[columns[1]]
    kept = pc.and_(pc.is_in(status, _ANSWERED), keys.is_valid())
    values = _in_segment_order(group, columns)
    return pa.Table.from_arrays([keys, *values], schema=segment.SCHEMA).filter(kept)


def _in_segment_order(group: pa.Table, columns: Sequence[str]) -> list[pa.ChunkedArray]:
    """Summary columns in the order and with the types of a segment, which has the status first."""
    text, status, *rest = columns
    return [
        group[name].cast(segment.SCHEMA.field(index).type)
        for index, name in enumerate([status, text, *rest], start=1)
    ]
