"""Makes the plan of a run: reads all footers, and the texts of the partitions that would be processed.

Sends no request, takes no lease, writes nothing. Partitions are read in parallel and evaluated in the order
of their keys: a row equal to an earlier one shares its reply, as long as a run remembers it. How many replies
a run remembers is estimated from their mean length.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow.compute as pc

from tasks.core.job import Job
from tasks.core.ledger import prior_outputs
from tasks.core.ledger.singleflight import replies_remembered
from tasks.core.options import RunOptions
from tasks.core.planning.partition_scan import OnRows, PartitionScan, scan_partition
from tasks.core.planning.partition_status import PartitionStatus, SourceStatus, inspect_source
from tasks.core.planning.plan import PartitionPlan, Rates, Reason, RunPlan
from tasks.core.planning.preflight import check
from tasks.core.planning.sampling import MIN_ROWS, Estimate, Sample, tokens_of_all
from tasks.core.planning.token_counting import Tokenizer, tokenizer_for
from tasks.core.row_key import KEY_BYTES
from tasks.core.storage import stored_files

_MAX_READERS = 8
"""Partitions read at once, and scans that may wait for their turn.

More readers hide more of the store's latency, but each holds a slice, and each waiting scan 24 bytes per row.
Measured with 100 partitions of 200 rows, 100 ms of latency per file and 2 cores: 1 reader took 14.8 s, 4 took
4.0 s, 8 took 2.8 s, 16 took 2.8 s. Memory was 282 MB with 4, 328 MB with 8, 418 MB with 16."""
_SAMPLE_BYTES = 32 * 2**20
"""Texts held for samples, of all partitions together. Bounds the plan's memory; larger texts make the sample
smaller and its bounds wider. Chosen so that 10,000 texts of 3 kB fit; not measured."""
_MIN_SAMPLE_BYTES_PER_PARTITION = 2**18
"""Texts held for the sample of one partition, at least. With thousands of partitions the share of each would
hold less than ``MIN_ROWS`` texts; 256 KiB hold 32 texts of 8 kB. Not measured."""
_MAX_OUTPUTS_READ = 4
"""Finished outputs read for the mean length of replies when the ledger holds none. Each costs a read of one
column of one row group; the last ones by key are taken, as the most similar to what is new in a source
partitioned by date. Not measured."""
_ASSUMED_REPLY_FRACTION = 0.25
"""Expected length of a reply, as a fraction of the largest one, when no earlier reply exists. Too small a
value promises too low a cost, too large a value deters. A guess: summaries of three sentences take 50 to 80
tokens of the default limit of 256. The plan states that it is a guess."""


def make_plan(
    job: Job,
    run: RunOptions = RunOptions(),
    tokenizer: Tokenizer | None = None,
    *,
    sampled_rows: int = 10_000,
    on_total: OnRows = lambda _: None,
    on_rows: OnRows = lambda _: None,
) -> RunPlan:
    """Determine what a run would do and what it would cost.

    Args:
        job: The run's job.
        run: Which partitions the run would process.
        tokenizer: Counts tokens; by default the model's.
        sampled_rows: Rows whose tokens are counted, over all partitions; at least 32 per partition.
        on_total: Called once with the number of rows that will be read, for progress.
        on_rows: Called with the number of rows after each slice, from any thread.

    Raises:
        InputError: The same as a run would raise before its first request.
        StorageError: A store does not respond.
        PartitionError: A partition cannot be read.
    """
    stored_files.check_bucket_exists(job.destination)
    status = inspect_source(job, run)
    on_total(check(status.selected, job).rows)
    counted = tokenizer or tokenizer_for(job.request.model)
    plans, replies, completion_tokens = _partition_plans(status, job, counted, sampled_rows, on_rows)
    if not replies:
        replies, completion_tokens = _finished_replies(status, job)
    return RunPlan(
        source=job.pattern,
        destination=job.destination.url,
        partitions=plans,
        left_out=status.left_out,
        rates=Rates(
            tokenizer=counted.name,
            tokenizer_is_assumed=counted.is_assumed,
            completion_tokens=_mean_reply(replies, completion_tokens, job),
            observed_replies=replies,
            max_output_tokens=job.request.max_output_tokens,
            price=job.price,
        ),
        orphans=status.orphans,
        prunes=run.prune,
    )


def _partition_plans(
    source: SourceStatus, job: Job, tokenizer: Tokenizer, sampled_rows: int, on_rows: OnRows
) -> tuple[tuple[PartitionPlan, ...], int, int]:
    """One plan per partition; the number of replies already paid for, and their completion tokens."""
    frame_tokens = tokenizer.count(job.request.prompt.messages_of(""))
    selected = [status for status in source.statuses if status.reason.is_selected]
    requested: OrderedDict[bytes, str] = OrderedDict()
    plans: list[PartitionPlan] = []
    replies = completion_tokens = 0

    def scan(status: PartitionStatus) -> PartitionScan:
        return scan_partition(status, job, tokenizer, _sample(sampled_rows, len(selected)), on_rows)

    with ThreadPoolExecutor(_MAX_READERS, thread_name_prefix="plan") as pool:
        scans = _in_order(pool, scan, selected)
        for status in source.statuses:
            if not status.reason.is_selected:
                plans.append(PartitionPlan(key=status.partition.key, reason=status.reason, rows=status.rows))
                continue
            scanned = next(scans)
            replies += scanned.replies
            completion_tokens += scanned.completion_tokens
            remembered = replies_remembered(_mean_reply(replies, completion_tokens, job))
            plans.append(_partition_plan(status, scanned, requested, remembered, frame_tokens))
    return tuple(plans), replies, completion_tokens


def _mean_reply(replies: int, completion_tokens: int, job: Job) -> float:
    """Mean completion tokens of a reply; an assumed value when there is no reply."""
    return completion_tokens / replies if replies else _ASSUMED_REPLY_FRACTION * job.request.max_output_tokens


def _sample(rows: int, partitions: int) -> Sample:
    """An empty sample for one partition, limited to its share of the rows and bytes."""
    return Sample(
        max(MIN_ROWS, rows // partitions),
        max(_MIN_SAMPLE_BYTES_PER_PARTITION, _SAMPLE_BYTES // partitions),
    )


def _in_order(
    pool: ThreadPoolExecutor,
    scan: Callable[[PartitionStatus], PartitionScan],
    statuses: Sequence[PartitionStatus],
) -> Iterator[PartitionScan]:
    """The scans in the order of the partitions; at most ``_MAX_READERS`` are made ahead."""
    waiting: deque[Future[PartitionScan]] = deque()
    for status in statuses:
        waiting.append(pool.submit(scan, status))
        if len(waiting) > _MAX_READERS:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _partition_plan(
    status: PartitionStatus,
    scan: PartitionScan,
    requested: OrderedDict[bytes, str],
    remembered: int,
    frame_tokens: int,
) -> PartitionPlan:
    """Separate rows to request from rows equal to an earlier one, if the run still remembers its reply.

    Args:
        status: The partition.
        scan: Its rows.
        requested: Partition key by row key, of the rows requested so far; updated.
        remembered: Number of replies that a run remembers.
        frame_tokens: Prompt tokens of a request without the row's text.
    """
    key, requests, size_bytes = status.partition.key, 0, 0
    equal = {True: 0, False: 0}
    sample: list[tuple[int, int]] = []
    for index, size in enumerate(scan.sizes):
        row = bytes(scan.keys[index * KEY_BYTES : (index + 1) * KEY_BYTES])
        if (requested_in := requested.get(row)) is not None:
            requested.move_to_end(row)
            equal[requested_in == key] += 1
            continue
        requested[row] = key
        while len(requested) > remembered:
            requested.popitem(last=False)
        requests, size_bytes = requests + 1, size_bytes + size
        # Removed, since an equal row that is requested again much later must not be sampled twice.
        if (tokens := scan.sampled.pop(row, None)) is not None:
            sample.append((size, tokens - frame_tokens))
    return PartitionPlan(
        key=key,
        reason=status.reason,
        rows=scan.rows,
        empty=scan.empty,
        paid=scan.paid,
        equal_in_partition=equal[True],
        equal_in_run=equal[False],
        requests=requests,
        prompt=Estimate(requests * frame_tokens) + tokens_of_all(requests, size_bytes, sample),
        sampled=len(sample),
    )


def _finished_replies(source: SourceStatus, job: Job) -> tuple[int, int]:
    """The number of replies in some of the finished outputs, and their completion tokens."""
    replies = completion_tokens = 0
    if source.selected.partitions:
        for partition in source.partitions(Reason.FINISHED)[-_MAX_OUTPUTS_READ:]:
            output = prior_outputs.find(partition.key, job)
            tokens = prior_outputs.completion_tokens(output, partition.key, job)
            replies += pc.count(tokens).as_py()
            completion_tokens += pc.sum(tokens, min_count=0).as_py()
    return replies, completion_tokens
