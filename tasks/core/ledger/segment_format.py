"""Ledger segment: replies of one partition as the bytes of a small Parquet file.

It holds row keys, outcomes and the replies as they came, never a row's text. Its digest is its name, so a
byte that changed anywhere, in the data or in what describes it, is noticed before a value is believed.
Columns are read by name: a missing one is null, an unknown one is left out, and a segment with unknown ones
is not merged, so that nothing of it is lost.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.core.errors import PartitionError
from tasks.core.formats import FORMAT, PROGRAM, VERSION, check_format
from tasks.core.model import Outcome, Reply, Status
from tasks.core.parquet.footer import BAD_BYTES
from tasks.core.row_key import KEY_BYTES

logger = logging.getLogger(__name__)

SEGMENT_FORMAT = 2
"""In the file's key-value metadata. 0.1.0 and 0.2.0 wrote none, and columns up to the completion tokens."""
KEY = pa.binary(KEY_BYTES)
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
        # Of the request; a truncated row is requested again under a larger limit.
        pa.field("max_output_tokens", pa.int32()),
        pa.field("fingerprint", pa.string()),
        # The reply as it came.
        pa.field("received", pa.timestamp("us", "UTC")),
        pa.field("endpoint", pa.string()),
        pa.field("finish_reason", pa.string()),
        pa.field("service_tier", pa.string()),
        pa.field("usage", pa.large_string()),
        pa.field("refusal", pa.large_string()),
        # Null where it is the same as the text.
        pa.field("reply_text", pa.large_string()),
    ]
)
NOTHING: pa.Table = SCHEMA.empty_table()

OUTCOME_COLUMNS = (
    "status", "text", "error", "model", "prompt_tokens", "completion_tokens", "max_output_tokens",
)  # fmt: skip
_REPLY_COLUMNS = ("endpoint", "finish_reason", "service_tier", "usage", "refusal")
_REQUIRED = {"key", "status"}
_WRITTEN = SCHEMA.with_metadata({FORMAT: str(SEGMENT_FORMAT), PROGRAM: VERSION})
_NO_REPLY = Reply(0.0, "")
_NOT_STORABLE = (pa.ArrowException, UnicodeEncodeError, OverflowError, TypeError, ValueError)
_US_PER_S = 1_000_000


def table_of(entries: Mapping[bytes, Outcome], fingerprint: str | None = None) -> pa.Table:
    """Row keys and outcomes as a table of ``SCHEMA``.

    An entry that no column can hold, such as a model name that is a number, is left out and logged: it must
    not keep its neighbours from being kept.

    Args:
        entries: Outcomes by row key.
        fingerprint: Of the request they answer.
    """
    try:
        return _table(entries, fingerprint)
    except _NOT_STORABLE:
        tables = [_table_or_nothing(key, outcome, fingerprint) for key, outcome in entries.items()]
        return pa.concat_tables(tables).combine_chunks()


def outcomes(table: pa.Table) -> list[Outcome]:
    """A table's outcomes, row by row, as reused ones: nothing was sent for them."""
    columns = [table[name].to_pylist() for name in OUTCOME_COLUMNS]
    statuses = {value: Status(value) for value in pc.unique(table["status"]).to_pylist()}
    return [
        Outcome(statuses[status], text, error, model, sent, received, reused=True, max_output_tokens=limit)
        for status, text, error, model, sent, received, limit in zip(*columns, strict=True)
    ]


def encode(tables: Iterable[pa.Table]) -> bytes:
    """Tables as the bytes of one Parquet file; only one table at a time is held beside the bytes.

    A key may be in it twice, which is no harm: equal keys have outcomes of equal worth.
    """
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, _WRITTEN, compression="zstd", write_page_checksum=True) as writer:
        for table in tables:
            writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def digest(data: bytes) -> str:
    """The hash of a segment's bytes, as 32 hex digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def decode(data: bytes, expected_digest: str, where: str = "A segment of the ledger") -> pa.Table:
    """The table of a segment, of ``SCHEMA``; ``is_known`` is whether that is all of it.

    Args:
        data: The segment's bytes.
        expected_digest: As its name has it.
        where: The segment, as a message names it.

    Raises:
        PartitionError: The bytes are not those that were written.
        InputError: A later version wrote it, in a format that cannot be read here.
    """
    return by_name(_read(data, expected_digest, where))


def is_known(data: bytes) -> bool:
    """Whether a segment that was decoded has no column that this version does not know."""
    return set(pq.read_schema(pa.BufferReader(data)).names) <= set(SCHEMA.names)


def by_name(table: pa.Table) -> pa.Table:
    """A table's columns by their names, as a table of ``SCHEMA``; null where one is missing."""
    arrays = [_column(table, field) for field in SCHEMA]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _column(table: pa.Table, field: pa.Field) -> pa.ChunkedArray | pa.Array:
    if field.name in table.column_names:
        try:
            return table[field.name].cast(field.type)
        except pa.ArrowException:
            # Of another type since a later version: not known here.
            logger.debug("Column %s of a ledger segment has another type and is left out", field.name)
    return pa.nulls(len(table), field.type)


def _read(data: bytes, expected_digest: str, where: str) -> pa.Table:
    message = "its bytes are not those that were written"
    if digest(data) != expected_digest:
        raise PartitionError(message)
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        _check_format(file.metadata.metadata or {}, where)
        table = file.read()
    except BAD_BYTES:
        raise PartitionError(message) from None
    missing = _REQUIRED - set(table.column_names)
    if missing or table["key"].type != KEY:
        message = "it was written by another version of this program"
        raise PartitionError(message)
    return table


def _check_format(entries: Mapping[bytes, bytes], where: str) -> None:
    found, program = (entries.get(name.encode(), b"").decode(errors="replace") for name in (FORMAT, PROGRAM))
    check_format(found, SEGMENT_FORMAT, program, where)


def _table(entries: Mapping[bytes, Outcome], fingerprint: str | None) -> pa.Table:
    rows = list(entries.values())
    replies = [row.reply or _NO_REPLY for row in rows]
    columns: dict[str, list[object]] = {
        name: [getattr(row, name) for row in rows] for name in OUTCOME_COLUMNS
    }
    columns |= {name: [getattr(reply, name) or None for reply in replies] for name in _REPLY_COLUMNS}
    columns |= {
        "key": list(entries),
        "status": [row.status.value for row in rows],
        "fingerprint": [fingerprint] * len(rows),
        "received": [int(reply.received_s * _US_PER_S) or None for reply in replies],
        "reply_text": [
            None if reply.text == row.text else reply.text for row, reply in zip(rows, replies, strict=True)
        ],
    }
    return pa.Table.from_arrays(
        [pa.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA
    )


def _table_or_nothing(key: bytes, outcome: Outcome, fingerprint: str | None) -> pa.Table:
    try:
        return _table({key: outcome}, fingerprint)
    except _NOT_STORABLE as error:
        logger.error("A reply cannot be kept in the ledger (%s)", type(error).__name__)  # noqa: TRY400 - may quote it
        return NOTHING
