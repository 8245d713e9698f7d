"""The plan of a run, made by reading: listings and footers of everything, texts of what would run.

Sends no request, takes no lease, writes nothing. Several partitions are read at once, and what is kept of
their rows only until it is their turn: equal rows are counted in the order of the keys, as far back as a run
remembers replies, if all have the mean length.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow.compute as pc

from tasks.core.job import Job
from tasks.core.ledger import prior_outputs
from tasks.core.ledger.singleflight import replies_remembered
from tasks.core.options import RunOptions
from tasks.core.planning.inventory import Inventory, OnRows, read_rows
from tasks.core.planning.partition_status import PartitionStatus, Standing, look
from tasks.core.planning.plan import PartitionPlan, Rates, RunPlan, Why
from tasks.core.planning.preflight import check
from tasks.core.planning.sampling import FEWEST_ROWS, Estimate, Sample, tokens_of_all
from tasks.core.planning.token_counting import Tokenizer, tokenizer_for
from tasks.core.row_key import KEY_BYTES
from tasks.core.storage import stored_files

_OPEN = 8
_SAMPLED_BYTES = 32 * 2**20
"""Texts of the sample, of all partitions together ..."""
_SAMPLED_BYTES_A_PARTITION = 2**18
"""... of each at least these."""
_OUTPUTS_LOOKED_INTO = 4
_GUESSED_PART = 0.25
"""Of the longest reply, when there is no earlier reply to learn from."""


def make_plan(
    job: Job,
    run: RunOptions = RunOptions(),
    tokenizer: Tokenizer | None = None,
    *,
    sampled_rows: int = 10_000,
    on_total: OnRows = lambda _: None,
    on_rows: OnRows = lambda _: None,
) -> RunPlan:
    """Find out what a run would do and what it would cost.

    Args:
        job: What is asked for.
        run: How much of it.
        tokenizer: Counts tokens; by default the model's.
        sampled_rows: Rows whose tokens are counted, of all partitions together; of each at least 32.
        on_total: Called once with the number of rows that will be read, for progress.
        on_rows: Called with numbers of rows as they are read; from any thread.

    Raises:
        InputError: What is asked for cannot be done; the same that a run would say.
        StorageError: A store does not answer.
        PartitionError: A partition cannot be read.
    """
    stored_files.check_bucket(job.destination)
    standing = look(job, run)
    on_total(check(standing.todo, job).rows)
    counted = tokenizer or tokenizer_for(job.request.model)
    plans, replies, completion_tokens = _partition_plans(standing, job, counted, sampled_rows, on_rows)
    if not replies:
        replies, completion_tokens = _earlier_replies(standing, job)
    longest = job.request.max_output_tokens
    return RunPlan(
        source=job.pattern,
        destination=job.destination.url,
        partitions=plans,
        left_out=standing.left_out,
        rates=Rates(
            tokenizer=counted.name,
            tokenizer_is_assumed=counted.is_assumed,
            completion_tokens=_mean_reply(replies, completion_tokens, job),
            observed_replies=replies,
            max_output_tokens=longest,
            price=job.price,
        ),
        gone=standing.gone,
        prunes=run.prune,
    )


def _partition_plans(
    standing: Standing, job: Job, tokenizer: Tokenizer, sampled_rows: int, on_rows: OnRows
) -> tuple[tuple[PartitionPlan, ...], int, int]:
    """A plan per partition; and how many replies are paid for, with how many completion tokens."""
    frame_tokens = tokenizer.count(job.request.prompt.messages_of(""))
    running = [stand for stand in standing.stands if stand.why.runs]
    asked: OrderedDict[bytes, str] = OrderedDict()
    plans: list[PartitionPlan] = []
    replies = completion_tokens = 0

    def read(stand: PartitionStatus) -> Inventory:
        return read_rows(stand, job, tokenizer, _sample(sampled_rows, len(running)), on_rows)

    with ThreadPoolExecutor(_OPEN, thread_name_prefix="plan") as pool:
        inventories = _in_order(pool, read, running)
        for stand in standing.stands:
            if not stand.why.runs:
                plans.append(PartitionPlan(key=stand.partition.key, why=stand.why, rows=stand.rows))
                continue
            inventory = next(inventories)
            replies += inventory.replies
            completion_tokens += inventory.completion_tokens
            remembered = replies_remembered(_mean_reply(replies, completion_tokens, job))
            plans.append(_partition_plan(stand, inventory, asked, remembered, frame_tokens))
    return tuple(plans), replies, completion_tokens


def _mean_reply(replies: int, completion_tokens: int, job: Job) -> float:
    """Completion tokens of a reply; a guess while there is none."""
    return completion_tokens / replies if replies else _GUESSED_PART * job.request.max_output_tokens


def _sample(rows: int, partitions: int) -> Sample:
    """An empty sample for one of so many partitions."""
    return Sample(
        max(FEWEST_ROWS, rows // partitions),
        max(_SAMPLED_BYTES_A_PARTITION, _SAMPLED_BYTES // partitions),
    )


def _in_order(
    pool: ThreadPoolExecutor, read: Callable[[PartitionStatus], Inventory], stands: Sequence[PartitionStatus]
) -> Iterator[Inventory]:
    """What each partition told, in order; only a few are read ahead."""
    waiting: deque[Future[Inventory]] = deque()
    for stand in stands:
        waiting.append(pool.submit(read, stand))
        if len(waiting) > _OPEN:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _partition_plan(
    stand: PartitionStatus,
    read: Inventory,
    asked: OrderedDict[bytes, str],
    remembered: int,
    frame_tokens: int,
) -> PartitionPlan:
    """Separate equal rows from those to be requested, as a run does that remembers so many replies."""
    key, requests, size_bytes = stand.partition.key, 0, 0
    equal = {True: 0, False: 0}
    sample: list[tuple[int, int]] = []
    for place, size in enumerate(read.sizes):
        row = bytes(read.keys[place * KEY_BYTES : (place + 1) * KEY_BYTES])
        if (asked_by := asked.get(row)) is not None:
            asked.move_to_end(row)
            equal[asked_by == key] += 1
            continue
        asked[row] = key
        while len(asked) > remembered:
            asked.popitem(last=False)
        requests, size_bytes = requests + 1, size_bytes + size
        # Taken out, so that a row asked again after a long time is not a second one of the sample.
        if (tokens := read.sampled.pop(row, None)) is not None:
            sample.append((size, tokens - frame_tokens))
    return PartitionPlan(
        key=key,
        why=stand.why,
        rows=read.rows,
        empty=read.empty,
        paid=read.paid,
        equal_in_partition=equal[True],
        equal_in_run=equal[False],
        requests=requests,
        prompt=Estimate(requests * frame_tokens) + tokens_of_all(requests, size_bytes, sample),
        sampled=len(sample),
    )


def _earlier_replies(standing: Standing, job: Job) -> tuple[int, int]:
    """How many replies some finished outputs hold, and their completion tokens."""
    replies = completion_tokens = 0
    if standing.todo.partitions:
        for partition in standing.partitions(Why.FINISHED)[-_OUTPUTS_LOOKED_INTO:]:
            output = prior_outputs.find(partition.key, job)
            tokens = prior_outputs.completion_tokens(output, partition.key, job)
            replies += pc.count(tokens).as_py()
            completion_tokens += pc.sum(tokens, min_count=0).as_py()
    return replies, completion_tokens
