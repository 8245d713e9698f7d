"""One partition from end to end, without Prefect: read, summarize, write aside, verify, publish.

Either the whole enriched partition appears under its key in one step, or nothing changes there.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa

from tasks.core.errors import PartitionError, TooManyFailedError
from tasks.core.files import parquet
from tasks.core.job import Job
from tasks.core.model import Outcome, Partition, Status
from tasks.core.paid import outputs
from tasks.core.paid.ledger import Ledger
from tasks.core.paid.reuse import AskOnce, RowService
from tasks.core.plans.preflight import schema_problems
from tasks.core.printable import printable
from tasks.core.reports.report import FailedRow, PartitionReport, PartitionState
from tasks.core.reports.tally import Tally
from tasks.core.rows.readahead import summarized
from tasks.core.store import publishing, storage
from tasks.core.store.failures import failures_of

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
    account.add_known(outputs.paid_rows(partition.key, job))
    with publishing.aside(job.destination) as built:
        report = _build(built, partition, job, AskOnce(rows, job.request, account))
        # Publishing may take long, and be where the process is killed.
        account.store_now()
        _check_failed(report, job.max_failed_fraction)
        publishing.publish(built, job.destination, partition.key)
    # From here on the output is what remembers; a kill in between leaves entries nobody needs.
    ledger.settle(partition.key)
    tally, seconds = report.tally, time.monotonic() - started_s
    logger.info(
        "Partition %s: published, %d rows, %d failed, %d reused, %d requests, %.1f s",
        *(name, tally.rows, tally.failed, tally.reused, tally.requests, seconds),
    )
    return replace(report, seconds=seconds)


def _build(built: Path, partition: Partition, job: Job, rows: AskOnce) -> PartitionReport:
    """Write the enriched partition aside and verify it."""
    tally = Tally()
    failures: list[FailedRow] = []
    reading = partial(failures_of, job.source.url, partition.key)
    with storage.open_to_read(job.source, partition.path) as file:
        with reading():
            reader = parquet.Reader(file, partition.key)
        _check_schema(reader.footer.schema, partition, job)

        def read(index: int) -> pa.Table:
            with reading():
                return reader.row_group(index)

        facts = job.facts_of(partition)
        with (
            parquet.Writer(built, reader.footer, job.columns, facts, partition.key) as writer,
            summarized(reader.footer, read, job.text_column, rows) as row_groups,
        ):
            for table, outcomes in row_groups:
                failures += _failed_rows(outcomes, tally.rows)[: _FAILURES_KEPT - len(failures)]
                tally += Tally.of(outcomes)
                writer.write(table, outcomes)
                del table, outcomes  # before the next ones are read
            writer.tell(job.facts_at_last(partition, tally.failed))
    parquet.verify(built, writer.schema, reader.footer)
    state = PartitionState.PUBLISHED
    return PartitionReport(key=partition.key, state=state, tally=tally, failures=tuple(failures))


def _failed_rows(outcomes: Sequence[Outcome], first_row: int) -> list[FailedRow]:
    return [
        FailedRow(first_row + place, outcome.error or "")
        for place, outcome in enumerate(outcomes)
        if outcome.status is Status.FAILED
    ]


def _check_failed(report: PartitionReport, max_failed_fraction: float) -> None:
    """Refuse to publish a partition with too many failed rows; what was paid for is in the ledger."""
    tally = report.tally
    if tally.failed <= max_failed_fraction * tally.rows:
        return
    first = ", ".join(f"row {failure.row}: {failure.reason}" for failure in report.failures[:_FAILURES_TOLD])
    message = (
        f"{printable(report.key)}: not published, {tally.failed} of {tally.rows} rows failed ({first}), more "
        f"than max_failed_fraction {max_failed_fraction:g} allows. Paid replies are kept: run again for the "
        "rest."
    )
    raise TooManyFailedError(message, report=replace(report, state=PartitionState.FAILED, error=message))


def _check_schema(schema: pa.Schema, partition: Partition, job: Job) -> None:
    """The preflight's checks again: the file may be another one by now."""
    problems = list(schema_problems(schema, partition.key, job.text_column, job.columns))
    if problems:
        message = printable(f"{partition.key}: {'; '.join(problems)}")
        raise PartitionError(message)
