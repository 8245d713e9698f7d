"""Read row groups in order; write the enriched file with nothing else changed.

What a partition's writer chose and its footer tells is kept: schema with field metadata, footer metadata,
row group boundaries, codec per column, sorting, nested naming, INT96 timestamps. What a footer does not tell
(encodings, page sizes, compression level) is pyarrow's default. Row groups are read and written one at a
time, so memory is one row group, whatever the file's size.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.errors import PartitionError, StorageError
from tasks.core.files import foreign, layout
from tasks.core.files.columns import SummaryColumns
from tasks.core.files.footer import BAD_BYTES, Footer, footer_bytes, refuse_encrypted
from tasks.core.model import Outcome, Text
from tasks.core.printable import printable
from tasks.core.store.failures import failures_building

_ROWS_A_SLICE = 256


def verify(path: Path, expected: pa.Schema, source: Footer) -> None:
    """Read a finished file's footer and compare it with what was to be written.

    Args:
        path: The finished file.
        expected: The schema it was written with.
        source: The footer of the source partition.

    Raises:
        StorageError: The disk did not keep what was written.
    """
    try:
        with pq.ParquetFile(path, coerce_int96_timestamp_unit=source.int96_unit) as file:
            footer = Footer.of(file)
    except BAD_BYTES:
        message = f"The file built in {path.parent} cannot be read back; check that disk and run again."
        raise StorageError(message) from None
    if footer.row_groups != source.row_groups or not footer.schema.equals(expected, check_metadata=False):
        message = (
            f"The file built in {path.parent} differs from what was written; check that disk and run again."
        )
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
        self._name = name = printable(name)
        with _corruption(f"{name}: the footer"):
            self._file = _open(file, "ns")
            self.footer = Footer.of(self._file)
            file.seek(-8, os.SEEK_END)
            length = footer_bytes(file.read(8))
        try:
            refuse_encrypted(self.footer.metadata, length)
        except PartitionError as error:
            message = f"{name}: {error}"
            raise PartitionError(message) from None
        if layout.int96_paths(self.footer.metadata):
            self._choose_unit(file)

    def _choose_unit(self, file: BinaryIO) -> None:
        """Read INT96 timestamps in a unit that holds all of them; costs reading these columns twice."""
        with _corruption(f"{self._name}: an INT96 timestamp"):
            micros = _open(file, "us")
            unit = layout.int96_unit(self._file, micros)
        if unit is None:
            message = (
                f"{self._name}: INT96 timestamps both outside the years 1677 to 2262 and finer than "
                "microseconds cannot be kept exactly; write the file with INT64 timestamps and run again"
            )
            raise PartitionError(message)
        if unit == "us":
            self._file = micros
            self.footer = Footer.of(micros, unit)

    def row_group(self, index: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Read one row group, or some of its columns.

        Raises:
            PartitionError: Its data is corrupt.
        """
        with _corruption(f"{self._name}: row group {index}"):
            table = self._file.read_row_group(index, columns, use_threads=False)
            if len(table) != self.footer.row_groups[index]:
                message = "fewer rows than the footer says"
                raise pa.ArrowInvalid(message)
            return table


def _open(file: BinaryIO, int96_unit: str) -> pq.ParquetFile:
    # Without pre_buffer a column streams; with it a whole file may be held in memory.
    return pq.ParquetFile(
        file, pre_buffer=False, page_checksum_verification=True, coerce_int96_timestamp_unit=int96_unit
    )


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
        name: What to call the partition in messages.

    Raises:
        PartitionError: The source's schema would not survive.
        StorageError: The disk does not take the file; so for every method.
    """

    def __init__(
        self,
        path: Path,
        footer: Footer,
        columns: SummaryColumns,
        facts: dict[str, str],
        name: str = "The partition",
    ) -> None:
        self._columns = columns
        self._building = partial(failures_building, path, name)
        self.schema = enriched_schema(footer.schema, columns, facts)
        try:
            options = layout.writer_options(footer, self.schema)
        except PartitionError as error:
            message = f"{printable(name)}: {error}"
            raise PartitionError(message) from None
        with self._building():
            self._sink = pa.OSFile(str(path), "wb")
            self._writer = pq.ParquetWriter(self._sink, self.schema, **options)
            if not options["store_schema"] and self.schema.metadata:
                # Without Arrow's schema pyarrow leaves out everybody's footer metadata, Spark's for one.
                self._writer.add_key_value_metadata(self.schema.metadata)

    def __enter__(self) -> Self:
        """Start writing."""
        return self

    def write(self, table: pa.Table, outcomes: Sequence[Outcome]) -> None:
        """Append one row group: the source's rows and their outcomes, row by row."""
        arrays = [*table.columns, *self._columns.arrays(outcomes)]
        enriched = pa.Table.from_arrays(arrays, schema=self.schema)
        with self._building():
            self._writer.write_table(enriched, row_group_size=max(1, len(enriched)))

    def tell(self, facts: dict[str, str]) -> None:
        """Add entries to the footer's metadata that were not known at the start."""
        self._writer.add_key_value_metadata(facts)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the footer, unless an exception is passing."""
        try:
            if error is None:
                with self._building():
                    self._writer.close()
        finally:
            # Otherwise pyarrow's finalizer would complete a file that lacks rows.
            self._writer.is_open = False
            self._sink.close()


def enriched_schema(schema: pa.Schema, columns: SummaryColumns, facts: dict[str, str]) -> pa.Schema:
    """The source's schema, the summary fields behind it, and the facts in its metadata."""
    kept = foreign.with_fields(schema.metadata or {}, columns.fields)
    metadata = {**kept, **{key.encode(): value.encode() for key, value in facts.items()}}
    return pa.schema([*schema, *columns.fields], metadata=metadata)


@contextmanager
def _corruption(where: str) -> Iterator[None]:
    """Turn what pyarrow raises on bad bytes into a PartitionError that says where.

    pyarrow reports corruption as a plain OSError without an error number; a failing store's OSError has a
    subclass or a number, and passes through to be told as what it is.
    """
    try:
        yield
    except BAD_BYTES as error:
        if not isinstance(error, OSError) or (type(error) is OSError and error.errno is None):
            message = f"{where} cannot be read, its bytes are corrupt: restore the file and run again"
            raise PartitionError(message) from None
        raise
