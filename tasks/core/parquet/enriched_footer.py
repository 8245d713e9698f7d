"""Builds the footer of an enriched file: the source's footer with the new columns added.

Fields that do not change are copied byte for byte. Only lists, counts, sums, column orders and embedded
schemas are edited.
"""

from collections.abc import Mapping, Sequence
from itertools import count

import pyarrow as pa

from tasks.core.errors import PartitionError
from tasks.core.parquet import embedded_schemas, thrift
from tasks.core.parquet.column_chunk import Chunk
from tasks.core.parquet.footer import BAD_BYTES, MAGIC, Entry, Footer, parse
from tasks.core.parquet.footer_fields import (
    CHILDREN,
    CHUNK_METADATA,
    CHUNKS,
    COLUMN_ORDERS,
    ENTRIES,
    FIELD_ID,
    GROUP_BYTES,
    GROUP_COMPRESSED_BYTES,
    KEY,
    PAGE_OFFSETS,
    ROW_GROUPS,
    SCHEMA,
    VALUE,
)
from tasks.core.parquet.thrift import Field, Struct, edited, integer_field
from tasks.core.parquet.thrift_values import I32, STRUCT

_FILE_OFFSET = 2
"""Field of ColumnChunk; 0 when not used."""
_STATISTICS, _NULL_COUNT = 12, 3


def moved_chunk(chunk: Struct, shift_bytes: int, nulls: int) -> Struct:
    """A new chunk after its pages were moved behind the source.

    Args:
        chunk: The chunk in the temporary file of the new columns.
        shift_bytes: Distance of the move.
        nulls: Number of null values.
    """
    fields = dict(chunk)
    metadata = thrift.parse(fields[CHUNK_METADATA].value)
    # pyarrow writes offset 0 for a chunk without pages, which would point into the source.
    end = Chunk.of(fields).end or len(MAGIC)
    changed = [
        integer_field(number, (metadata[number].int or end) + shift_bytes)
        for number in PAGE_OFFSETS
        if number in metadata
    ]
    if _STATISTICS not in metadata:
        count_alone = thrift.struct({_NULL_COUNT: integer_field(_NULL_COUNT, nulls)})
        changed.append(Field(_STATISTICS, STRUCT, count_alone))
    fields[CHUNK_METADATA] = Field(CHUNK_METADATA, STRUCT, edited(metadata, *changed))
    if fields[_FILE_OFFSET].int:
        fields[_FILE_OFFSET] = integer_field(_FILE_OFFSET, fields[_FILE_OFFSET].int + shift_bytes)
    return fields


def build(
    source: Footer,
    new: Footer,
    chunks: Sequence[Sequence[bytes]],
    fields: Sequence[pa.Field],
    facts: Mapping[str, str],
) -> bytes:
    """Build the enriched file's footer, without its length and magic number.

    Args:
        source: The footer of the source.
        new: The footer of the temporary file with the new columns.
        chunks: All chunks of each row group, the new ones last.
        fields: The new columns.
        facts: Entries to add; they replace entries with the same keys.
    """
    was = source.fields
    columns = len(source.columns) + len(new.columns)
    root = edited(was[SCHEMA].structs[0], integer_field(CHILDREN, columns, I32))
    schema = [root, *was[SCHEMA].items[1:], *_elements(source, new)]
    groups = [
        edited(old, thrift.list_field(CHUNKS, all_chunks), *_sums(old, added))
        for old, added, all_chunks in zip(
            was[ROW_GROUPS].structs, new.fields[ROW_GROUPS].structs, chunks, strict=True
        )
    ]
    changed = [thrift.list_field(SCHEMA, schema), thrift.list_field(ROW_GROUPS, groups)]
    if COLUMN_ORDERS in was:
        orders = [*was[COLUMN_ORDERS].items, *new.fields[COLUMN_ORDERS].items]
        changed.append(thrift.list_field(COLUMN_ORDERS, orders))
    return edited(was, *changed, thrift.list_field(ENTRIES, _entries(source, fields, facts)))


def _elements(source: Footer, new: Footer) -> list[bytes]:
    """The schema elements of the new columns, with unused field ids if the source's columns have ids."""
    elements = new.fields[SCHEMA].structs[1:]
    taken = [element[FIELD_ID].int for element in source.fields[SCHEMA].structs[1:] if FIELD_ID in element]
    if not taken:
        return [thrift.struct(element) for element in elements]
    return [
        edited(element, integer_field(FIELD_ID, number, I32))
        for element, number in zip(elements, count(max(taken) + 1), strict=False)
    ]


def _sums(old: Struct, added: Struct) -> list[Field]:
    sums = [number for number in (GROUP_BYTES, GROUP_COMPRESSED_BYTES) if number in old and number in added]
    return [integer_field(number, old[number].int + added[number].int) for number in sums]


def _entries(source: Footer, fields: Sequence[pa.Field], facts: Mapping[str, str]) -> list[bytes]:
    before = source.entries
    after = embedded_schemas.with_columns(before, fields)
    items = source.fields[ENTRIES].items if ENTRIES in source.fields else []
    own = {key.encode() for key in facts}
    kept = [
        item if new is old else _entry(new)
        for item, old, new in zip(items, before, after, strict=True)
        if new[0] not in own
    ]
    return kept + [_entry((key.encode(), value.encode())) for key, value in facts.items()]


def _entry(entry: Entry) -> bytes:
    key, value = entry
    fields = [thrift.binary_field(KEY, key)] + (
        [thrift.binary_field(VALUE, value)] if value is not None else []
    )
    return edited({}, *fields)


def verify(data: bytes, source: Footer, fields: Sequence[pa.Field], pages: range) -> None:
    """Check a new footer: the source's part is unchanged, and pyarrow reads the new columns correctly.

    Args:
        data: The new footer.
        source: The footer of the source.
        fields: The new columns.
        pages: The byte range of their pages in the enriched file.

    Raises:
        PartitionError: The footer is wrong; nothing is published.
    """
    try:
        footer = parse(data)
        selected = footer.select([field.name for field in fields])
    except (*BAD_BYTES, LookupError):
        raise PartitionError(_WRONG) from None
    if not (_keeps(footer, source) and _adds(selected, fields, source, pages)):
        raise PartitionError(_WRONG)


_WRONG = (
    "the footer built for the output is wrong, so nothing was published: report this as a bug, and "
    "leave the partition out"
)


def _keeps(footer: Footer, source: Footer) -> bool:
    new, old = footer.fields, source.fields
    edited_fields = {SCHEMA, ROW_GROUPS, ENTRIES, COLUMN_ORDERS}
    same = all(new.get(number) == field for number, field in old.items() if number not in edited_fields)
    width = len(old[SCHEMA].items)
    same = same and new[SCHEMA].items[1:width] == old[SCHEMA].items[1:]
    return same and all(map(_keeps_group, new[ROW_GROUPS].structs, old[ROW_GROUPS].structs))


def _keeps_group(new: Struct, old: Struct) -> bool:
    sums = {CHUNKS, GROUP_BYTES, GROUP_COMPRESSED_BYTES}
    same = all(new.get(number) == field for number, field in old.items() if number not in sums)
    pairs = zip(new[CHUNKS].items, old[CHUNKS].items, strict=False)
    # The offsets of the page index may change; these fields come after the metadata.
    return same and all(a == b or a.startswith(thrift.up_to_field(b, CHUNK_METADATA)) for a, b in pairs)


def _adds(
    selected: pa.parquet.FileMetaData, fields: Sequence[pa.Field], source: Footer, pages: range
) -> bool:
    right = selected.schema.to_arrow_schema().equals(pa.schema(fields))
    rows = [selected.row_group(index).num_rows for index in range(selected.num_row_groups)]
    for index in range(selected.num_row_groups):
        for column in map(selected.row_group(index).column, range(len(fields))):
            first = column.dictionary_page_offset or column.data_page_offset
            inside = pages.start <= first and first + column.total_compressed_size <= pages.stop
            right = right and inside and column.num_values == rows[index]
    return right and tuple(rows) == source.row_groups
