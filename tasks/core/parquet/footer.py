"""A Parquet file's footer: parsed from its bytes, and reduced to selected columns.

Only the fields that are needed are decoded, so that other columns may use features that pyarrow cannot read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.errors import PartitionError
from tasks.core.parquet import thrift
from tasks.core.parquet.column_chunk import Chunk
from tasks.core.parquet.footer_fields import (
    CHILDREN,
    CHUNKS,
    COLUMN_ORDERS,
    ENCRYPTION,
    ENTRIES,
    GROUP_BYTES,
    GROUP_ROWS,
    KEY,
    NAME,
    ROW_GROUPS,
    SCHEMA,
    TYPE,
    VALUE,
)
from tasks.core.parquet.thrift import Lists, Struct, edited
from tasks.core.parquet.thrift_values import BINARY, I32, ThriftError

BAD_BYTES = (pa.ArrowException, OSError, UnicodeDecodeError, ThriftError)
"""Exceptions raised by bytes that are not valid Parquet, including column names."""

MAGIC = b"PAR1"
TRAILER_BYTES = 8
_LISTS = Lists({SCHEMA: Lists(), ROW_GROUPS: Lists({CHUNKS: None}), ENTRIES: Lists(), COLUMN_ORDERS: None})
_TEXT_ENCODINGS = {0, 2, 3, 4, 6, 7, 8}
"""Encodings of text columns: PLAIN, dictionaries, RLE and BIT_PACKED of levels, DELTA of byte arrays."""
CORRUPT = "the footer is corrupt: restore the file and run again"

Entry = tuple[bytes, bytes | None]
"""Key and value of an entry of a footer's metadata; the value may be missing."""


@dataclass(frozen=True, slots=True)
class Column:
    """A top-level column: the index ranges of its schema elements and of its leaves."""

    elements: range
    leaves: range


@dataclass(frozen=True, slots=True)
class Footer:
    """A parsed footer.

    Attributes:
        fields: The fields of FileMetaData.
        names: The names of the top-level columns, in order; bytes that are not UTF-8 become surrogates.
        columns: The top-level columns, in the same order.
        size_bytes: Size of the footer, including the length and the magic number that follow it.
    """

    fields: Struct
    names: tuple[str, ...]
    columns: tuple[Column, ...]
    size_bytes: int

    @property
    def row_groups(self) -> tuple[int, ...]:
        """Number of rows of each row group, in order."""
        return tuple(group[GROUP_ROWS].int for group in self.fields[ROW_GROUPS].structs)

    @property
    def rows(self) -> int:
        """Number of rows of the file."""
        return sum(self.row_groups)

    @property
    def entries(self) -> list[Entry]:
        """The metadata entries, in order; a value that is not a string, as of some old writers, is None."""
        if ENTRIES not in self.fields:
            return []
        return [
            (
                entry[KEY].bytes,
                entry[VALUE].bytes if VALUE in entry and entry[VALUE].kind == BINARY else None,
            )
            for entry in self.fields[ENTRIES].structs
        ]

    def entry(self, key: str) -> str:
        """The value of the last entry with this key; empty without one."""
        values = [value or b"" for name, value in self.entries if name == key.encode()]
        return values[-1].decode(errors="replace") if values else ""

    def chunks(self, name: str) -> "list[Chunk]":
        """The chunks of a column that is not nested, one per row group.

        Raises:
            PartitionError: The column does not exist, or the footer is corrupt.
        """
        leaf = self._column(name).leaves.start
        try:
            items = [group[CHUNKS].items[leaf] for group in self.fields[ROW_GROUPS].structs]
            return [Chunk.of(thrift.parse(item)) for item in items]
        except (ThriftError, LookupError, ValueError):
            raise PartitionError(CORRUPT) from None

    def _column(self, name: str) -> Column:
        if name not in self.names:
            message = f"column '{name}' is missing"
            raise PartitionError(message)
        return self.columns[self.names.index(name)]

    def select(self, names: Sequence[str], *, with_rows: bool = True) -> pq.FileMetaData:
        """Build a footer with only some of the columns, in the order of the file.

        Args:
            names: Names of columns, each unique in the file.
            with_rows: Whether to include the row groups; the schema alone is cheaper.

        Raises:
            PartitionError: pyarrow cannot read these columns.
        """
        columns = sorted(map(self._column, names), key=lambda column: column.elements.start)
        elements = self.fields[SCHEMA].items
        schema = [
            edited(
                self.fields[SCHEMA].structs[0],
                thrift.integer_field(CHILDREN, len(columns), I32),
            )
        ]
        schema += [elements[place] for column in columns for place in column.elements]
        leaves = [leaf for column in columns for leaf in column.leaves]
        groups = [self._cut(group, leaves) for group in self.fields[ROW_GROUPS].structs if with_rows]
        kept = {
            number: field for number, field in self.fields.items() if number not in {ENTRIES, COLUMN_ORDERS}
        }
        cut = edited(kept, thrift.list_field(SCHEMA, schema), thrift.list_field(ROW_GROUPS, groups))
        try:
            file = MAGIC + cut + len(cut).to_bytes(4, "little") + MAGIC
            return pq.ParquetFile(pa.BufferReader(file)).metadata
        except BAD_BYTES as error:
            message = f"column '{names[0]}' has a type that pyarrow cannot read ({type(error).__name__})"
            raise PartitionError(message) from None

    @staticmethod
    def _cut(group: Struct, leaves: Sequence[int]) -> bytes:
        chunks = [group[CHUNKS].items[leaf] for leaf in leaves]
        kept = {number: group[number] for number in (GROUP_BYTES, GROUP_ROWS)}
        return edited(kept, thrift.list_field(CHUNKS, chunks))


def text_column_problem(footer: Footer, name: str) -> str | None:
    """Why the chunks of a text column cannot be read, as far as the footer shows; None if they can."""
    for chunk in footer.chunks(name):
        if chunk.is_elsewhere:
            return f"column '{name}' is in another file: this file only lists the files of a dataset"
        if not chunk.codec:
            return f"column '{name}' has a codec that pyarrow cannot read, such as LZO: write the file again"
        if not chunk.encodings <= _TEXT_ENCODINGS:
            return f"column '{name}' has an encoding that pyarrow cannot read: write the file again"
    return None


def parse(data: bytes) -> Footer:
    """Parse the bytes of a footer, without the trailing length and magic number.

    Raises:
        ThriftError: It is corrupt.
        LookupError: It is corrupt.
        PartitionError: The file is encrypted.
    """
    fields = thrift.parse(data, _LISTS)
    if ENCRYPTION in fields:
        message = "the file is encrypted"
        raise PartitionError(message)
    elements = fields[SCHEMA].structs
    columns = _columns(elements)
    leaves = columns[-1].leaves.stop if columns else 0
    groups = fields[ROW_GROUPS].structs
    if any(len(group[CHUNKS].items) != leaves or group[GROUP_ROWS].int < 0 for group in groups):
        raise ThriftError
    decode = partial(bytes.decode, errors="surrogateescape")
    names = tuple(decode(elements[column.elements[0]][NAME].bytes) for column in columns)
    return Footer(fields, names, columns, len(data) + TRAILER_BYTES)


def _columns(elements: Sequence[Struct]) -> tuple[Column, ...]:
    """The top-level columns, from the list of all schema elements in depth-first order."""
    children = [element[CHILDREN].int if CHILDREN in element else 0 for element in elements]
    found, place, leaf = [], 1, 0
    for _ in range(children[0]):
        start, first_leaf, left = place, leaf, 1
        while left:
            left += children[place] - 1
            leaf += TYPE in elements[place]
            place += 1
        found.append(Column(range(start, place), range(first_leaf, leaf)))
    if place != len(children):
        raise ThriftError
    return tuple(found)
