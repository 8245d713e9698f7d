"""A segment: some outcomes of one partition as the bytes of a small Parquet file.

Holds row keys and outcomes, never a row's text. Its digest is its name, so a byte that changed anywhere, in
the data or in what describes it, is noticed before a value is believed.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.errors import PartitionError
from tasks.core.footer.footer import BAD_BYTES
from tasks.core.model import Outcome, Status

logger = logging.getLogger(__name__)

KEY = pa.binary(16)
SCHEMA = pa.schema(
    [
        pa.field("key", KEY, nullable=False),
        pa.field("status", pa.string(), nullable=False),
        # Large, because a million summaries in one column pass the 2 GiB of a string column.
        pa.field("text", pa.large_string()),
        pa.field("error", pa.string()),
        pa.field("model", pa.string()),
        pa.field("prompt_tokens", pa.int32()),
        pa.field("completion_tokens", pa.int32()),
    ]
)
NOTHING: pa.Table = SCHEMA.empty_table()

_FIELDS = tuple(SCHEMA.names[1:])
_NOT_STORABLE = (pa.ArrowException, UnicodeEncodeError, OverflowError, TypeError, ValueError)


def table_of(entries: Mapping[bytes, Outcome]) -> pa.Table:
    """Row keys and outcomes as a table of ``SCHEMA``.

    An entry no column can hold, such as a model name that is a number, is left out and logged: it must not
    keep its neighbours from being kept.
    """
    try:
        return _table(entries)
    except _NOT_STORABLE:
        tables = [_table_or_nothing(key, outcome) for key, outcome in entries.items()]
        return pa.concat_tables(tables).combine_chunks()


def outcomes(table: pa.Table) -> list[Outcome]:
    """A table's outcomes, row by row, as reused ones: nothing was sent for them."""
    values = [table[name].to_pylist() for name in _FIELDS]
    return [
        Outcome(Status(status), text, error, model, prompt_tokens, completion_tokens, reused=True)
        for status, text, error, model, prompt_tokens, completion_tokens in zip(*values, strict=True)
    ]


def encode(tables: Iterable[pa.Table]) -> bytes:
    """Tables as the bytes of one Parquet file; only one table at a time is held beside the bytes.

    A key may be in it twice, which is no harm: equal keys have outcomes of equal worth.
    """
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, SCHEMA, compression="zstd", write_page_checksum=True) as writer:
        for table in tables:
            writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def digest(data: bytes) -> str:
    """The hash of a segment's bytes, as 32 hex digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def decode(data: bytes, expected_digest: str) -> pa.Table:
    """The table of a segment.

    Raises:
        PartitionError: The bytes are not those that were written.
    """
    message = "its bytes are not those that were written"
    if digest(data) != expected_digest:
        raise PartitionError(message)
    try:
        table = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True).read()
    except BAD_BYTES:
        raise PartitionError(message) from None
    if not table.schema.equals(SCHEMA):
        message = "it was written by another version of this program"
        raise PartitionError(message)
    return table


def _table(entries: Mapping[bytes, Outcome]) -> pa.Table:
    rows = entries.values()
    values = [
        [row.status.value for row in rows],
        *([getattr(row, name) for row in rows] for name in _FIELDS[1:]),
    ]
    arrays = [pa.array(column, SCHEMA.field(name).type) for column, name in zip(values, _FIELDS, strict=True)]
    return pa.Table.from_arrays([pa.array(list(entries), KEY), *arrays], schema=SCHEMA)


def _table_or_nothing(key: bytes, outcome: Outcome) -> pa.Table:
    try:
        return _table({key: outcome})
    except _NOT_STORABLE as error:
        logger.error("A reply cannot be kept in the ledger (%s)", type(error).__name__)  # noqa: TRY400 - may quote it
        return NOTHING
