"""A partition that is open: its source, its earlier output and its ledger, while a step works on it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from tasks.core.errors import PartitionError
from tasks.core.escaping import printable
from tasks.core.job import Job
from tasks.core.ledger import prior_outputs
from tasks.core.ledger.ledger import Ledger
from tasks.core.ledger.partition_ledger import PartitionLedger
from tasks.core.model import Partition
from tasks.core.parquet.footer import Footer
from tasks.core.parquet.reader import Reader
from tasks.core.planning.preflight import footer_problems
from tasks.core.storage import reading, stored_files
from tasks.core.storage.reading import CountingFile
from tasks.core.storage.stored_files import StoredFile


@dataclass(frozen=True, slots=True)
class OpenPartition:
    """A partition that is open.

    Attributes:
        job: What all partitions of the run have in common.
        partition: The partition, with the size and version it has now.
        found: The source's file as it was found.
        file: The source's file, open.
        reader: Reads it.
        close_source: Closes the source's file, after a check that it is still the one that was read.
        earlier: The partition's output of an earlier run; None when there is none.
        ledger: The ledger of the run.
        replies: The partition's ledger.
    """

    job: Job
    partition: Partition
    found: StoredFile
    file: CountingFile
    reader: Reader
    close_source: Callable[[], None]
    earlier: StoredFile | None
    ledger: Ledger
    replies: PartitionLedger


@contextmanager
def open_partition(partition: Partition, job: Job, ledger: Ledger) -> Iterator[OpenPartition]:
    """Open a partition: read its ledger and its footer, and find its earlier output.

    Args:
        partition: The partition.
        job: What all partitions of the run have in common.
        ledger: The ledger of the run.

    Raises:
        StorageError: Source, destination or the disk for temporary files failed; trying again is safe.
        PartitionError: The footer cannot be read, or is not the one that was checked before the run.
    """
    earlier = prior_outputs.find(partition.key, job)
    replies = ledger.open(partition.key, lambda: prior_outputs.paid_rows(earlier, partition.key, job))
    try:
        found = stored_files.stat(job.source, partition.path)
        partition = replace(partition, size_bytes=found.size_bytes, version=found.version)
        with ExitStack() as source:
            file = source.enter_context(reading.open_to_read(job.source, found))
            reader = Reader(file, partition.key)
            _check_footer(reader.footer, partition, job)
            yield OpenPartition(job, partition, found, file, reader, source.close, earlier, ledger, replies)
    finally:
        # Of thousands of partitions that failed, none keeps a file open.
        replies.release()


def _check_footer(footer: Footer, partition: Partition, job: Job) -> None:
    """The preflight's checks again: the file may have been replaced since."""
    problems = list(footer_problems(footer, partition.key, job.text_column, job.columns))
    if problems:
        message = printable(f"{partition.key}: {'; '.join(problems)}")
        raise PartitionError(message)
