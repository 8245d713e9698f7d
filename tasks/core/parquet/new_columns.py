"""Completes the tail of an enriched file: page index and footer behind the pages of the new columns."""

import logging
import os
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import pyarrow as pa

from tasks.core.parquet import page_index, splice, thrift
from tasks.core.parquet.column_chunk import Chunk
from tasks.core.parquet.footer import MAGIC, Footer, read_footer
from tasks.core.parquet.footer_fields import CHUNKS, ROW_GROUPS
from tasks.core.parquet.thrift import Struct
from tasks.core.storage.reading import SeekableFile

logger = logging.getLogger(__name__)

_LARGE_FOOTER_BYTES = 16 * 2**20


def complete(
    file: BinaryIO,
    nulls: Sequence[Sequence[int]],
    source_file: SeekableFile,
    source: Footer,
    fields: Sequence[pa.Field],
    facts: Mapping[str, str],
) -> None:
    """Replace the end of the new columns' own file by the end of the enriched file.

    Args:
        file: The new columns' own file, complete; afterwards, all behind its first magic is the tail.
        nulls: Null values of each new column in each row group.
        source_file: The open source.
        source: Its footer.
        fields: The new columns.
        facts: Entries to add to the footer's metadata.

    Raises:
        PartitionError: The footer is not right.
    """
    size_bytes = source_file.seek(0, os.SEEK_END)
    shift_bytes = size_bytes - len(MAGIC)
    new = read_footer(file)
    own = [list(map(thrift.parse, group[CHUNKS].items)) for group in new.fields[ROW_GROUPS].structs]
    groups = [
        [splice.moved(chunk, shift_bytes, count) for chunk, count in zip(chunks, counts, strict=True)]
        for chunks, counts in zip(own, nulls, strict=True)
    ]
    end = max((Chunk.of(chunk).end for group in groups for chunk in group), default=size_bytes)
    bodies = [page_index.shifted(one, shift_bytes) for one in _bodies(own, file)]
    file.seek(end - shift_bytes)
    file.truncate()
    chunks = _with_index(groups, bodies, source_file, source, file, end)
    footer = splice.spliced(source, new, chunks, fields, facts)
    splice.verify(footer, source, fields, range(size_bytes, end))
    file.write(footer + len(footer).to_bytes(4, "little") + MAGIC)
    file.flush()
    if len(footer) > _LARGE_FOOTER_BYTES:
        logger.warning("A footer of %d MB: some readers take long to open such a file", len(footer) // 10**6)


def _with_index(
    groups: Sequence[Sequence[Struct]],
    new_bodies: Sequence[page_index.Bodies],
    source_file: SeekableFile,
    source: Footer,
    file: BinaryIO,
    at: int,
) -> list[list[bytes]]:
    """All chunks of each row group; bodies of the source's page index are written beside the new ones."""
    old_items = [group[CHUNKS].items for group in source.fields[ROW_GROUPS].structs]
    if not page_index.has_any(source):
        return [[*old, *map(thrift.struct, new)] for old, new in zip(old_items, groups, strict=True)]
    old = [list(map(thrift.parse, items)) for items in old_items]
    old_bodies, new_ones = iter(_bodies(old, source_file)), iter(new_bodies)
    found = []
    for chunks, added in zip(old, groups, strict=True):
        bodies = [*(next(old_bodies) for _ in chunks), *(next(new_ones) for _ in added)]
        placed, at = page_index.place([*chunks, *added], bodies, at, file.write)
        found.append(list(map(thrift.struct, placed)))
    return found


def _bodies(groups: Sequence[Sequence[Struct]], file: SeekableFile) -> list[page_index.Bodies]:
    def read(start: int, length: int) -> bytes:
        file.seek(start)
        return file.read(length)

    chunks = [chunk for group in groups for chunk in group]
    return page_index.read_bodies(chunks, read, file.seek(0, os.SEEK_END))
