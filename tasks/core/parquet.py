"""Read row groups in order; write the enriched file with nothing else changed.

What a partition's writer chose and its footer tells is kept: schema with field metadata, footer metadata, row
group boundaries, codec per column, sorting, nested naming, INT96 timestamps. What a footer does not tell
(encodings, page sizes, compression level) is pyarrow's default. Row groups are read and written one at a time,
so memory is one row group, whatever the file's size.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.columns import SummaryColumns
from tasks.core.errors import PartitionError, StorageError
from tasks.core.model import Outcome, Text

_ARROW_SCHEMA = b"ARROW:schema"
_ROWS_A_SLICE = 256
_MAGIC = b"PAR1"
_MAGIC_ENCRYPTED = b"PARE"
_TRAILER_BYTES = 8


@dataclass(frozen=True, slots=True)
class Footer:
    """What a partition's footer tells.

    Attributes:
        schema: The Arrow schema, with field and footer metadata.
        row_groups: Rows of each row group, in order.
        metadata: Parquet's own record of the file.
    """

    schema: pa.Schema
    row_groups: tuple[int, ...]
    metadata: pq.FileMetaData

    @property
    def rows(self) -> int:
        """Rows of the partition."""
        return sum(self.row_groups)

    @classmethod
    def of(cls, file: pq.ParquetFile) -> "Footer":
        """The footer of an open file."""
        metadata = file.metadata
        sizes = tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
        return cls(file.schema_arrow, sizes, metadata)


def footer_bytes(tail: bytes) -> int:
    """How many last bytes of the file its footer takes, from the file's last eight bytes.

    Raises:
        PartitionError: These are not the last bytes of a readable Parquet file; says why.
    """
    if not tail:
        message = "the file is empty"
        raise PartitionError(message)
    magic = tail[-len(_MAGIC) :]
    if magic == _MAGIC_ENCRYPTED:
        message = "the file is encrypted"
        raise PartitionError(message)
    if magic != _MAGIC or len(tail) < _TRAILER_BYTES:
        message = "the file is truncated or is not Parquet (its last bytes are not PAR1)"
        raise PartitionError(message)
    return int.from_bytes(tail[-_TRAILER_BYTES : -len(_MAGIC)], "little") + _TRAILER_BYTES


def parse_footer(tail: bytes) -> Footer:
    """Parse the footer from the last bytes of a file.

    Raises:
        PartitionError: The footer is corrupt.
    """
    try:
        return Footer.of(pq.ParquetFile(pa.BufferReader(tail)))
    except (pa.ArrowException, OSError):
        message = "the footer is corrupt"
        raise PartitionError(message) from None


def verify(path: Path, expected: pa.Schema, row_groups: Sequence[int]) -> None:
    """Read a finished file's footer and compare it with what was to be written.

    Raises:
        StorageError: The disk did not keep what was written.
    """
    try:
        footer = Footer.of(pq.ParquetFile(path))
    except (pa.ArrowException, OSError):
        message = "the file built aside cannot be read back; check the disk for temporary files"
        raise StorageError(message) from None
    if footer.row_groups != tuple(row_groups) or not footer.schema.equals(expected, check_metadata=False):
        message = "the file built aside differs from what was written; check the disk for temporary files"
        raise StorageError(message)


class Reader:
    """Row groups of one partition.

    Args:
        file: The open partition; it stays the caller's to close.
        name: What to call it in messages.

    Raises:
        PartitionError: Its footer is corrupt.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._name = name
        with _corruption(f"{name}: the footer"):
            # Without pre_buffer a column streams; with it a whole file may be held in memory.
            self._file = pq.ParquetFile(file, pre_buffer=False, page_checksum_verification=True)
        self.footer = Footer.of(self._file)

    def row_group(self, index: int) -> pa.Table:
        """Read one row group.

        Raises:
            PartitionError: Its data is corrupt.
        """
        with _corruption(f"{self._name}: row group {index}"):
            return self._file.read_row_group(index, use_threads=False)


class TextColumn:
    """The text column's rows in order, converted a few hundred at a time while they are pulled.

    One row that is not valid UTF-8 is one bad row: it comes as its raw bytes.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column

    def __len__(self) -> int:
        """How many rows."""
        return len(self._column)

    def __iter__(self) -> Iterator[Text]:
        """Each row's text."""
        for chunk in self._column.chunks:
            for start in range(0, len(chunk), _ROWS_A_SLICE):
                part = chunk.slice(start, _ROWS_A_SLICE)
                yield from _strings(part.dictionary_decode() if pa.types.is_dictionary(part.type) else part)


def _strings(part: pa.Array) -> Iterator[Text]:
    try:
        yield from part.to_pylist()
    except UnicodeDecodeError:
        for raw in part.cast(pa.large_binary()).to_pylist():
            yield _string(raw)


def _string(raw: bytes | None) -> Text:
    try:
        return raw if raw is None else raw.decode()
    except UnicodeDecodeError:
        return raw


class Writer:
    """Writes a partition again with the summary columns behind its own.

    Closing it after an exception leaves a file without a footer, which no reader takes for a shorter one.

    Args:
        path: Where to build the file.
        footer: The footer of the source partition.
        columns: What is added.
        facts: Entries to add to the footer's metadata.
    """

    def __init__(self, path: Path, footer: Footer, columns: SummaryColumns, facts: dict[str, str]) -> None:
        self._columns = columns
        self.schema = enriched_schema(footer.schema, columns, facts)
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pq.ParquetWriter(self._sink, self.schema, **_writer_options(footer, columns))

    def __enter__(self) -> Self:
        """Start writing."""
        return self

    def write(self, table: pa.Table, outcomes: Sequence[Outcome]) -> None:
        """Append one row group: the source's rows and their outcomes, row by row."""
        arrays = [*table.columns, *self._columns.arrays(outcomes)]
        enriched = pa.Table.from_arrays(arrays, schema=self.schema)
        self._writer.write_table(enriched, row_group_size=max(1, len(enriched)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the footer, unless an exception is passing."""
        if error is None:
            self._writer.close()
        # Otherwise pyarrow's finalizer would complete a file that lacks rows.
        self._writer.is_open = False
        self._sink.close()


def enriched_schema(schema: pa.Schema, columns: SummaryColumns, facts: dict[str, str]) -> pa.Schema:
    """The source's schema, the summary fields behind it, and the facts in its metadata."""
    metadata = {**(schema.metadata or {}), **{key.encode(): value.encode() for key, value in facts.items()}}
    return pa.schema([*schema, *columns.fields], metadata=metadata)


def _writer_options(footer: Footer, columns: SummaryColumns) -> dict[str, Any]:
    """How the source was written, as far as its footer tells."""
    metadata = footer.metadata
    paths = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    return {
        # The only version that keeps every Arrow type; older ones widen uint32 and round nanoseconds.
        "version": "2.6",
        "compression": _codecs(metadata, paths, columns),
        "sorting_columns": metadata.row_group(0).sorting_columns or None if footer.row_groups else None,
        "use_compliant_nested_type": not any(".list.item" in path for path in paths),
        "use_deprecated_int96_timestamps": any(
            metadata.schema.column(i).physical_type == "INT96" for i in range(metadata.num_columns)
        ),
        # A file without Arrow's own schema was not written by Arrow; adding one would change its footer.
        "store_schema": _ARROW_SCHEMA in (metadata.metadata or {}),
        "write_page_checksum": True,
    }


def _codecs(metadata: pq.FileMetaData, paths: list[str], columns: SummaryColumns) -> dict[str, str] | str:
    """Codec per column, those of the first row group; the summary columns take the text's neighbours'."""
    if not metadata.num_row_groups or not paths:
        return "zstd"
    group = metadata.row_group(0)
    codecs = {path: _codec(group.column(i).compression) for i, path in enumerate(paths)}
    most_common = max(codecs.values(), key=list(codecs.values()).count)
    return codecs | dict.fromkeys(columns.names, most_common)


def _codec(name: str) -> str:
    return "none" if name == "UNCOMPRESSED" else name.lower()


@contextmanager
def _corruption(where: str) -> Iterator[None]:
    """Turn what pyarrow raises on bad bytes into a PartitionError that says where.

    pyarrow reports corruption as a plain OSError without an error number; a failing store's OSError has a
    subclass or a number, and passes through to be told as what it is.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, pa.ArrowException) or (type(error) is OSError and error.errno is None):
            message = f"{where} cannot be read, its bytes are corrupt: restore the file and run again"
            raise PartitionError(message) from None
        raise
