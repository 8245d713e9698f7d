"""What earlier outputs in the destination are worth: finished work, and rows that are paid for.

An output's footer tells how it was made and from which source. One whose source and request are the same and
that has no failed rows is finished. Of any other, the rows with a final answer are a source of reuse, as the
ledger is.
"""

import logging
from collections.abc import Sequence
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core import parquet, segment, storage
from tasks.core.columns import SummaryColumns
from tasks.core.errors import PartitionError
from tasks.core.failures import failures_of
from tasks.core.footer import Footer
from tasks.core.footers import read_footers
from tasks.core.job import FINGERPRINT, TEXT_COLUMN, Job, fact_key
from tasks.core.model import Partition, Status

logger = logging.getLogger(__name__)

_ANSWERED = pa.array([status.value for status in Status if status.is_answered])


def finished(partitions: Sequence[Partition], job: Job) -> frozenset[Partition]:
    """The partitions that need no work; reads one listing and footers.

    Raises:
        InputError: The destination may not be read.
        StorageError: The store does not answer.
    """
    place = job.destination
    listed = {file.path.removeprefix(place.path("")): file for file in storage.find(place, place.root)}
    # Without a version nobody can tell whether a source changed.
    candidates = [p for p in partitions if p.version and p.key in listed]
    footers = read_footers(place, [listed[p.key] for p in candidates])
    return frozenset(
        partition
        for partition, footer in zip(candidates, footers, strict=True)
        # An output that cannot be read is no finished work, whatever the reason.
        if isinstance(footer, Footer) and _is_finished(footer, partition, job)
    )


def paid_rows(partition_key: str, job: Job) -> pa.Table:
    """What a partition's earlier output holds for this request: a table of ``segment.SCHEMA``.

    Raises:
        StorageError: The store does not answer.
    """
    path = job.destination.path(partition_key)
    if all(file.path != path for file in storage.find(job.destination, path)):
        return segment.NOTHING
    reading = partial(failures_of, job.destination.url, partition_key)
    with storage.open_to_read(job.destination, path) as file, reading():
        try:
            return _paid_rows(parquet.Reader(file, partition_key), job)
        except PartitionError as error:
            logger.warning("The earlier output is of no use: %s", error)
            return segment.NOTHING


def _is_finished(footer: Footer, partition: Partition, job: Job) -> bool:
    facts = {**job.facts_of(partition), **job.failed_rows(0)}
    # What was enriched under another prefix since is another output.
    return _last_added(footer) == job.columns and all(_fact(footer, key) == facts[key] for key in facts)


def _paid_rows(reader: parquet.Reader, job: Job) -> pa.Table:
    footer = reader.footer
    # The prefix may be another one: the answers are the same.
    columns = _last_added(footer)
    if columns is None or _fact(footer, fact_key(columns.prefix, FINGERPRINT)) != job.request.fingerprint:
        return segment.NOTHING
    names = [_fact(footer, fact_key(columns.prefix, TEXT_COLUMN)), *columns.names]
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


def _last_added(footer: Footer) -> SummaryColumns | None:
    """The columns this very output was made with; it may hold those of its source's making too."""
    return SummaryColumns.last_of(footer.schema)


def _fact(footer: Footer, key: str) -> str:
    """What a footer tells; empty when it tells nothing."""
    told: bytes = (footer.schema.metadata or {}).get(key.encode(), b"")
    return told.decode(errors="replace")
