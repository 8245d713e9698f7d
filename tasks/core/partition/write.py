"""Write, the second step of a partition: the published file is made from its source and its ledger."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from tasks.core.errors import StorageError, TooManyFailedError
from tasks.core.escaping import printable
from tasks.core.job import Job
from tasks.core.ledger.ledger import Ledger
from tasks.core.ledger.reply_index import FoundReplies
from tasks.core.model import Outcome, Partition, Status
from tasks.core.output_facts import RowCounts, entries_of
from tasks.core.parquet.append_writer import Writer
from tasks.core.partition.filled import Filled, RowRecord, RowRecorder
from tasks.core.partition.opened import OpenPartition, open_partition
from tasks.core.reporting.report import FailedRow, PartitionReport, PartitionState
from tasks.core.reporting.tally import Tally
from tasks.core.rows.row_source import RowSource
from tasks.core.storage import atomic_write
from tasks.core.storage.publish import publish_appended

_SLICE_ROWS = 32_768
"""Rows whose outcomes are in memory at once, as many as the reader hands out. More holds more memory; row
groups with more rows go through a temporary file once more."""
_FAILURES_KEPT = 20
"""Failed rows that a report lists; enough to see what they have in common. Chosen, not measured."""
_FAILURES_IN_MESSAGE = 3
_NO_REPLY = Outcome(Status.FAILED, error="the ledger has no reply to this row: run again to request it")


def write(partition: Partition, job: Job, ledger: Ledger, filled: Filled | None = None) -> PartitionReport:
    """Make the enriched file of a partition and publish it; no row is requested.

    Args:
        partition: The partition.
        job: What all partitions of the run have in common.
        ledger: Holds the replies; those of the partition are removed when it is published.
        filled: As ``fill`` returned it, perhaps in another process. Without it the texts are read again, and
            a row without a reply in the ledger is ``failed``.

    Returns:
        The partition's report, with state ``published``.

    Raises:
        StorageError: Source, destination or the disk for temporary files failed; trying again is safe.
        PartitionError: Its data cannot be read, or too many rows failed; the replies are kept.
    """
    with open_partition(partition, job, ledger) as opened:
        report = write_opened(opened, filled)
    return replace(report, bytes_read=report.bytes_read + (filled.bytes_read if filled else 0))


def write_opened(opened: OpenPartition, filled: Filled | None = None) -> PartitionReport:
    """The same for a partition that is open."""
    job, partition = opened.job, opened.partition
    if filled is not None and filled.source != partition:
        message = f"{printable(partition.key)} was replaced while it was summarized; run again."
        raise StorageError(message)
    folder = atomic_write.temporary_folder(job.destination)
    with Writer(opened.reader.footer, job.columns, job.text_column, folder, partition.key) as writer:
        report, counts = _write_columns(writer, opened, filled)
        tail = writer.finish(opened.file, entries_of(job, partition, counts))
        opened.close_source()
        _check_failed(report, job.max_failed_fraction)
        moved = publish_appended(
            job.source, opened.found, tail, job.destination, partition.key, opened.earlier
        )
    # From here on the output holds the facts; a kill in between leaves entries that are not needed.
    opened.ledger.settle(partition.key)
    return replace(
        report,
        bytes_read=opened.file.bytes_read + moved.bytes_read,
        bytes_copied=moved.bytes_copied,
        bytes_uploaded=moved.bytes_uploaded,
    )


def _write_columns(
    writer: Writer, opened: OpenPartition, filled: Filled | None
) -> tuple[PartitionReport, RowCounts]:
    """Write the new columns of all rows."""
    job, counts, tally, rows = opened.job, RowCounts(), Tally(), 0
    failures: list[FailedRow] = []
    for outcomes in _slices(opened, filled):
        failures += _failed_rows(outcomes, rows)[: _FAILURES_KEPT - len(failures)]
        rows += len(outcomes)
        if filled is None:
            tally += Tally.of(outcomes)
        counts.add(outcomes, job.request.max_output_tokens)
        writer.write(job.columns.table(outcomes))
        del outcomes  # before the next ones are read
    if filled is not None:
        tally = _with_statuses(filled.tally, counts)
    key, state = opened.partition.key, PartitionState.PUBLISHED
    return PartitionReport(key=key, state=state, tally=tally, failures=tuple(failures)), counts


def _slices(opened: OpenPartition, filled: Filled | None) -> Iterator[list[Outcome]]:
    """The outcomes of all rows in order, some rows of a row group at a time."""
    rows, replies = _looked_up(opened, filled)
    first = 0
    for group_rows in opened.reader.footer.row_groups:
        for start in range(first, first + group_rows, _SLICE_ROWS):
            length = min(_SLICE_ROWS, first + group_rows - start)
            both = zip(replies.outcomes(start, length), rows.others_of(start, length), strict=True)
            yield [reply or other or _NO_REPLY for reply, other in both]
        first += group_rows


def _looked_up(opened: OpenPartition, filled: Filled | None) -> tuple[RowRecord, FoundReplies]:
    """The rows, and the replies to those that have one."""
    rows = filled.rows if filled else _read_rows(opened)
    keys = rows.arrow_keys()
    replies = opened.replies.replies().find(keys)
    if filled is not None and replies.missing > keys.null_count:
        # Filled by another process from replies of a version before 0.3.0: their keys need the texts.
        _read_rows(opened)
        replies = opened.replies.replies().find(keys)
    return rows, replies


def _read_rows(opened: OpenPartition) -> RowRecord:
    """Read the texts for their keys."""
    job, recorder = opened.job, RowRecorder()
    for rows in RowSource(opened.reader.slices([job.text_column]), job.request):
        opened.replies.match_earlier(rows.keys, rows.texts, job.earlier)
        rendered = (
            job.request.render(text) if key is None else None
            for key, text in zip(rows.keys, rows.texts, strict=True)
        )
        recorder.add(rows.keys, [one if isinstance(one, Outcome) else None for one in rendered])
    return recorder.record


def _with_statuses(tally: Tally, written: RowCounts) -> Tally:
    """A tally of what was sent, with the statuses that were written."""
    statuses = {status.value: written.by_status[status.value] for status in Status}
    return replace(tally, **statuses, other=written.by_status.total() - sum(statuses.values()))


def _failed_rows(outcomes: Sequence[Outcome], first_row: int) -> list[FailedRow]:
    return [
        FailedRow(first_row + place, outcome.error or "")
        for place, outcome in enumerate(outcomes)
        if outcome.status is Status.FAILED
    ]


def is_within(rows: int, all_rows: int, max_fraction: float) -> bool:
    """Whether rows are at most this fraction of all, as a person wrote it: 29 of 100 are within 0.29.

    Multiplied as binary fractions, 0.29 times 100 is less than 29.
    """
    return rows <= Fraction(str(max_fraction)) * all_rows


def _check_failed(report: PartitionReport, max_failed_fraction: float) -> None:
    """Refuse to publish a partition with too many failed rows; paid replies are in the ledger."""
    tally = report.tally
    if is_within(tally.failed, tally.rows, max_failed_fraction):
        return
    failures = report.failures[:_FAILURES_IN_MESSAGE]
    first = ", ".join(f"row {failure.row}: {failure.reason}" for failure in failures)
    message = (
        f"{printable(report.key)}: not published, {tally.failed} of {tally.rows} rows failed ({first}), more "
        f"than max_failed_fraction {max_failed_fraction:g} allows. Paid replies are kept: run again for the "
        "rest."
    )
    raise TooManyFailedError(message, report=replace(report, state=PartitionState.FAILED, error=message))
