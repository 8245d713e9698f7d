"""One partition from end to end, without Prefect: read the texts, summarize, append the new columns, publish.

Either the whole enriched partition appears under its key in one step, or nothing changes there.
"""

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction

from tasks.core.errors import PartitionError, TooManyFailedError
from tasks.core.escaping import printable
from tasks.core.job import Job, RowCounts
from tasks.core.ledger import prior_outputs
from tasks.core.ledger.ledger import Ledger
from tasks.core.model import Outcome, Partition, Status
from tasks.core.parquet.append_writer import Writer
from tasks.core.parquet.footer import Footer
from tasks.core.parquet.reader import Reader
from tasks.core.planning.preflight import footer_problems
from tasks.core.reporting.report import FailedRow, PartitionReport, PartitionState
from tasks.core.reporting.tally import Tally
from tasks.core.rows.requester import Requester, RowService
from tasks.core.rows.row_group_pipeline import summarize_slices
from tasks.core.rows.row_source import RowSource
from tasks.core.storage import atomic_write, reading, stored_files
from tasks.core.storage.publish import publish_appended
from tasks.core.storage.stored_files import StoredFile

logger = logging.getLogger(__name__)

_FAILURES_KEPT = 20
_FAILURES_TOLD = 3


def summarize_partition(partition: Partition, job: Job, rows: RowService, ledger: Ledger) -> PartitionReport:
    """Summarize one partition and publish it.

    Args:
        partition: Which one.
        job: How.
        rows: Where its rows are summarized.
        ledger: What is paid for already, and where replies are kept until the partition is published.

    Returns:
        What happened, with state ``published``.

    Raises:
        StorageError: Source, destination or the disk for temporary files failed; trying again is safe.
        PartitionError: Its data cannot be read, or too many rows failed; paid replies are kept.
        StopRunError: No row would be served.
    """
    started_s, name = time.monotonic(), printable(partition.key)
    logger.info("Partition %s: started", name)
    account = ledger.open(partition.key)
    earlier = prior_outputs.find(partition.key, job)
    account.add_known(prior_outputs.paid_rows(earlier, partition.key, job))
    report = _enrich(
        partition, job, Requester(rows, account, job.earlier, job.request.max_output_tokens), earlier
    )
    # From here on the output is what remembers; a kill in between leaves entries that are not needed.
    ledger.settle(partition.key)
    tally, seconds = report.tally, time.monotonic() - started_s
    logger.info(
        "Partition %s: published, %d rows, %d failed, %d reused, %d requests, %.1f s",
        *(name, tally.rows, tally.failed, tally.reused, tally.requests, seconds),
    )
    return replace(report, seconds=seconds)


def _enrich(partition: Partition, job: Job, rows: Requester, earlier: StoredFile | None) -> PartitionReport:
    """Write what is appended to the source, and publish both."""
    found = stored_files.stat(job.source, partition.path)
    partition = replace(partition, size_bytes=found.size_bytes, version=found.version)
    with ExitStack() as stack:
        with reading.open_to_read(job.source, found) as file:
            reader = Reader(file, partition.key)
            _check_footer(reader.footer, partition, job)
            folder = atomic_write.temporary_folder(job.destination)
            writer = Writer(reader.footer, job.columns, job.text_column, folder, partition.key)
            counts = RowCounts()
            report = _fill(stack.enter_context(writer), reader, job, rows, partition.key, counts)
            tail = writer.finish(file, job.facts_of(partition, counts))
        # Publishing may take long, and be where the process is killed.
        rows.store_now()
        _check_failed(report, job.max_failed_fraction)
        moved = publish_appended(job.source, found, tail, job.destination, partition.key, earlier)
    return replace(
        report,
        bytes_read=file.bytes_read + moved.bytes_read,
        bytes_copied=moved.bytes_copied,
        bytes_uploaded=moved.bytes_uploaded,
    )


def _fill(
    writer: Writer, reader: Reader, job: Job, rows: Requester, key: str, counts: RowCounts
) -> PartitionReport:
    """Summarize the rows and write their columns."""
    tally = Tally()
    failures: list[FailedRow] = []
    with summarize_slices(RowSource(reader.slices([job.text_column]), job.request), rows) as slices:
        for outcomes in slices:
            failures += _failed_rows(outcomes, tally.rows)[: _FAILURES_KEPT - len(failures)]
            tally += Tally.of(outcomes)
            counts.add(outcomes, job.request.max_output_tokens)
            writer.write(job.columns.table(outcomes))
            del outcomes  # before the next ones are read
    state = PartitionState.PUBLISHED
    return PartitionReport(key=key, state=state, tally=tally, failures=tuple(failures))


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
    """Refuse to publish a partition with too many failed rows; what was paid for is in the ledger."""
    tally = report.tally
    if is_within(tally.failed, tally.rows, max_failed_fraction):
        return
    first = ", ".join(f"row {failure.row}: {failure.reason}" for failure in report.failures[:_FAILURES_TOLD])
    message = (
        f"{printable(report.key)}: not published, {tally.failed} of {tally.rows} rows failed ({first}), more "
        f"than max_failed_fraction {max_failed_fraction:g} allows. Paid replies are kept: run again for the "
        "rest."
    )
    raise TooManyFailedError(message, report=replace(report, state=PartitionState.FAILED, error=message))


def _check_footer(footer: Footer, partition: Partition, job: Job) -> None:
    """The preflight's checks again: the file may be another one by now."""
    problems = list(footer_problems(footer, partition.key, job.text_column, job.columns))
    if problems:
        message = printable(f"{partition.key}: {'; '.join(problems)}")
        raise PartitionError(message)
