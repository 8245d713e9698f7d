"""Scan of one partition's rows for the plan: counts empty and paid rows, collects the rows left to request.

Reads slice by slice, and keeps only the key and the size of each row to request. Writes nothing.
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.earlier_keys import EarlierKeys
from tasks.core.job import Job
from tasks.core.ledger import prior_outputs, segment_format
from tasks.core.ledger.reply_index import ReplyIndex
from tasks.core.ledger.segment_store import SegmentStore
from tasks.core.parquet.reader import Reader
from tasks.core.parquet.text_column import TextColumn
from tasks.core.planning.partition_status import PartitionStatus
from tasks.core.planning.sampling import Sample
from tasks.core.planning.token_counting import Tokenizer
from tasks.core.row_key import keys_of
from tasks.core.storage import reading, stored_files

OnRows = Callable[[int], object]
"""Called with the number of rows read, for progress."""


@dataclass(slots=True)
class PartitionScan:
    """The result of scanning one partition.

    Attributes:
        rows: Rows in the partition.
        empty: Rows that are never sent: null, blank, not valid UTF-8.
        paid: Rows whose reply is in the ledger or in the earlier output.
        keys: Keys of the rows to request, concatenated, ``KEY_BYTES`` each.
        sizes: Sizes of their texts in bytes, in the same order.
        sampled: Prompt tokens of a sample of them, by key.
        replies: Number of replies already paid for whose tokens are recorded.
        completion_tokens: Completion tokens of those replies together.
    """

    rows: int = 0
    empty: int = 0
    paid: int = 0
    keys: bytearray = field(default_factory=bytearray)
    sizes: "array[int]" = field(default_factory=lambda: array("q"))
    sampled: dict[bytes, int] = field(default_factory=dict)
    replies: int = 0
    completion_tokens: int = 0


def scan_partition(
    status: PartitionStatus, job: Job, tokenizer: Tokenizer, sample: Sample, on_rows: OnRows
) -> PartitionScan:
    """Read the texts of one partition, and count the tokens of a sample of them.

    Args:
        status: The partition, and whether the ledger or an earlier output holds replies for it.
        job: The run's job.
        tokenizer: Counts tokens.
        sample: An empty sample; it selects the rows whose tokens are counted.
        on_rows: Called with the number of rows after each slice.

    Raises:
        StorageError: The store does not respond.
        PartitionError: The partition cannot be read.
    """
    scan, partition = PartitionScan(), status.partition
    paid, earlier = _paid_keys(status, job, scan)
    found = stored_files.stat(job.source, partition.path)
    with reading.open_to_read(job.source, found) as file:
        for rows in Reader(file, partition.key).slices([job.text_column]):
            _add_rows(TextColumn(rows[job.text_column]), paid, earlier, job, scan, sample)
            on_rows(len(rows))
    prompt = job.request.prompt
    scan.sampled = {key: tokenizer.count(prompt.messages_of(text)) for key, text in sample.texts().items()}
    return scan


def _paid_keys(status: PartitionStatus, job: Job, scan: PartitionScan) -> tuple[pa.Array, list[EarlierKeys]]:
    """Keys of the rows that need no request, and the formats of earlier versions' keys among them."""
    tables, request, key = list[pa.Table](), job.request, status.partition.key
    if status.has_ledger:
        tables += SegmentStore(job.destination, key, request.fingerprint, job.earlier).read()
    if status.has_output:
        tables += prior_outputs.paid_rows(prior_outputs.find(key, job), key, job)
    index = ReplyIndex()
    index.add(*(_without_texts(table) for table in tables))
    for table in tables:
        tokens = table["completion_tokens"]
        scan.replies += pc.count(tokens).as_py()
        scan.completion_tokens += pc.sum(tokens, min_count=0).as_py()
    earlier = [one for one in job.earlier if one.fingerprint in index.fingerprints]
    return index.final_keys(request.max_output_tokens), earlier


def _without_texts(table: pa.Table) -> pa.Table:
    return segment_format.by_name(table.drop_columns(["text", "error", "reply_text", "refusal"]))


def _add_rows(
    texts: TextColumn,
    paid: pa.Array,
    earlier: Sequence[EarlierKeys],
    job: Job,
    scan: PartitionScan,
    sample: Sample,
) -> None:
    """Count the rows of a slice, and collect those to request."""
    keys = job.request.row_keys(texts)
    is_paid = _is_in(keys, paid)
    for one in earlier:
        is_paid = pc.or_(is_paid, _is_in(keys_of(texts, one.of), paid))
    paid_rows = is_paid.to_pylist()
    scan.rows += len(keys)
    scan.empty += keys.count(None)
    scan.paid += sum(paid_rows)
    for text, key, has_reply in zip(texts, keys, paid_rows, strict=True):
        if key is None or has_reply or not isinstance(text, str):
            continue
        size_bytes = len(text) if text.isascii() else len(text.encode())
        scan.keys += key
        scan.sizes.append(size_bytes)
        sample.offer(key, text, size_bytes)


def _is_in(keys: Sequence[bytes | None], paid: pa.Array) -> pa.BooleanArray:
    return pc.is_in(pa.array(keys, segment_format.KEY), value_set=paid, skip_nulls=True)
