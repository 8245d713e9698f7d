"""What reading one partition tells: which rows are empty, which are paid for, which are left and how large.

Streams slice by slice; kept of a row that is left are its key and its size. Writes nothing.
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
"""Told how many rows were read, for progress."""


@dataclass(slots=True)
class Inventory:
    """What reading one partition told.

    Attributes:
        rows: Its rows.
        empty: Rows that are never sent: null, blank, not valid UTF-8.
        paid: Rows whose answer is in the ledger, or in the earlier output.
        keys: The keys of the others, one after the other ...
        sizes: ... and the bytes of their texts.
        sampled: Prompt tokens of a sample of them, by key.
        replies: Answers that are known to be paid for, with their tokens ...
        completion_tokens: ... and the completion tokens of all of them.
    """

    rows: int = 0
    empty: int = 0
    paid: int = 0
    keys: bytearray = field(default_factory=bytearray)
    sizes: "array[int]" = field(default_factory=lambda: array("q"))
    sampled: dict[bytes, int] = field(default_factory=dict)
    replies: int = 0
    completion_tokens: int = 0


def read_rows(
    stand: PartitionStatus, job: Job, tokenizer: Tokenizer, sample: Sample, on_rows: OnRows
) -> Inventory:
    """Read one partition's texts; of those in the sample, count the tokens.

    Args:
        stand: Which one, and whether anything of it can be paid for.
        job: What is asked for.
        tokenizer: Counts tokens.
        sample: Empty; decides whose tokens are counted.
        on_rows: Called with numbers of rows as they are read.

    Raises:
        StorageError: A store does not answer.
        PartitionError: The partition cannot be read.
    """
    read, partition = Inventory(), stand.partition
    paid, earlier = _paid(stand, job, read)
    found = stored_files.look_at(job.source, partition.path)
    with reading.open_to_read(job.source, found) as file:
        for rows in Reader(file, partition.key).slices([job.text_column]):
            _take(TextColumn(rows[job.text_column]), paid, earlier, job, read, sample)
            on_rows(len(rows))
    prompt = job.request.prompt
    read.sampled = {key: tokenizer.count(prompt.messages_of(text)) for key, text in sample.texts().items()}
    return read


def _paid(stand: PartitionStatus, job: Job, read: Inventory) -> tuple[pa.Array, list[EarlierKeys]]:
    """Keys of the rows that need no request; and the earlier keys that are among them."""
    tables, request = list[pa.Table](), job.request
    if stand.has_ledger:
        place, key = job.destination, stand.partition.key
        tables += SegmentStore(place, key, request.fingerprint, job.earlier).read()
    if stand.has_output:
        output = prior_outputs.find(stand.partition.key, job)
        tables += prior_outputs.paid_rows(output, stand.partition.key, job)
    known = ReplyIndex()
    known.add(*(_without_texts(table) for table in tables))
    for table in tables:
        tokens = table["completion_tokens"]
        read.replies += pc.count(tokens).as_py()
        read.completion_tokens += pc.sum(tokens, min_count=0).as_py()
    earlier = [one for one in job.earlier if one.fingerprint in known.fingerprints]
    return known.final_keys(request.max_output_tokens), earlier


def _without_texts(table: pa.Table) -> pa.Table:
    return segment_format.by_name(table.drop_columns(["text", "error", "reply_text", "refusal"]))


def _take(
    texts: TextColumn,
    paid: pa.Array,
    earlier: Sequence[EarlierKeys],
    job: Job,
    read: Inventory,
    sample: Sample,
) -> None:
    """Sort some rows into empty, paid and the rest."""
    keys = job.request.row_keys(texts)
    known = _is_in(keys, paid)
    for one in earlier:
        known = pc.or_(known, _is_in(keys_of(texts, one.of), paid))
    known = known.to_pylist()
    read.rows += len(keys)
    read.empty += keys.count(None)
    read.paid += sum(known)
    for text, key, is_paid in zip(texts, keys, known, strict=True):
        if key is None or is_paid or not isinstance(text, str):
            continue
        size_bytes = len(text) if text.isascii() else len(text.encode())
        read.keys += key
        read.sizes.append(size_bytes)
        sample.offer(key, text, size_bytes)


def _is_in(keys: Sequence[bytes | None], paid: pa.Array) -> pa.BooleanArray:
    return pc.is_in(pa.array(keys, segment_format.KEY), value_set=paid, skip_nulls=True)
