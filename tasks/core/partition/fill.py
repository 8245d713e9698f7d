"""Fill, the first step of a partition: a reply to every row is put into the ledger."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from tasks.core.job import Job
from tasks.core.ledger.ledger import Ledger
from tasks.core.model import Partition
from tasks.core.partition.filled import Filled, RowRecorder
from tasks.core.partition.opened import OpenPartition, open_partition
from tasks.core.reporting.tally import Tally
from tasks.core.rows.requester import Requester, RowService
from tasks.core.rows.row_group_pipeline import summarize_slices
from tasks.core.rows.row_source import RowSlice, RowSource


def fill(partition: Partition, job: Job, rows: RowService, ledger: Ledger) -> Filled:
    """Have every row of a partition answered; replies are durable within about a second.

    Args:
        partition: The partition.
        job: What all partitions of the run have in common.
        rows: Summarizes rows.
        ledger: Receives the replies; when it is left, all of them are durable.

    Returns:
        The rows, for ``write``.

    Raises:
        StorageError: Source, destination or the disk for temporary files failed; trying again is safe.
        PartitionError: The source cannot be read.
        StopRunError: No row would be served.
    """
    with open_partition(partition, job, ledger) as opened:
        return fill_opened(opened, rows)


def fill_opened(opened: OpenPartition, rows: RowService) -> Filled:
    """The same for a partition that is open."""
    job = opened.job
    requester = Requester(rows, opened.replies, job.earlier, job.request.max_output_tokens)
    source = RowSource(opened.reader.slices([job.text_column]), job.request)
    keys = deque[Sequence[bytes | None]]()
    recorder, tally = RowRecorder(), Tally()
    with summarize_slices(_noting_keys(source, keys), requester) as slices:
        for outcomes in slices:
            tally += Tally.of(outcomes)
            slice_keys = keys.popleft()
            in_ledger = zip(slice_keys, outcomes, strict=True)
            recorder.add(
                slice_keys,
                [None if key is not None and one.status.is_answered else one for key, one in in_ledger],
            )
            del outcomes  # before the next ones are read
    opened.replies.store_now()
    return Filled(opened.partition, recorder.record, tally, opened.file.bytes_read)


def _noting_keys(source: Iterable[RowSlice], keys: deque[Sequence[bytes | None]]) -> Iterator[RowSlice]:
    """The same slices; their keys are put into the queue, as their outcomes come later."""
    for rows in source:
        keys.append(rows.keys)
        yield rows
        del rows  # or it would stay in memory while the next one is read
