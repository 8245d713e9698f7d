"""One partition from end to end, without Prefect, in two steps that may run in different processes.

``fill`` puts a reply to every row into the ledger; ``write`` makes the published file from source and ledger.
Either the whole enriched partition appears under its key in one step, or nothing changes there.
"""

import logging
import time
from dataclasses import replace

from tasks.core.escaping import printable
from tasks.core.job import Job
from tasks.core.ledger.ledger import Ledger
from tasks.core.model import Partition
from tasks.core.partition.fill import fill_opened
from tasks.core.partition.opened import open_partition
from tasks.core.partition.write import write_opened
from tasks.core.reporting.report import PartitionReport
from tasks.core.rows.requester import RowService

logger = logging.getLogger(__name__)


def summarize_partition(partition: Partition, job: Job, rows: RowService, ledger: Ledger) -> PartitionReport:
    """Summarize one partition and publish it; the texts are read once for both steps.

    Args:
        partition: The partition.
        job: What all partitions of the run have in common.
        rows: Summarizes rows.
        ledger: Holds replies until the partition is published.

    Returns:
        The partition's report, with state ``published``.

    Raises:
        StorageError: Source, destination or the disk for temporary files failed; trying again is safe.
        PartitionError: Its data cannot be read, or too many rows failed; paid replies are kept.
        StopRunError: No row would be served.
    """
    started_s, name = time.monotonic(), printable(partition.key)
    logger.info("Partition %s: started", name)
    with open_partition(partition, job, ledger) as opened:
        filled = fill_opened(opened, rows)
        report = write_opened(opened, filled)
    tally, seconds = report.tally, time.monotonic() - started_s
    logger.info(
        "Partition %s: published, %d rows, %d failed, %d reused, %d requests, %.1f s",
        *(name, tally.rows, tally.failed, tally.reused, tally.requests, seconds),
    )
    return replace(report, seconds=seconds)
