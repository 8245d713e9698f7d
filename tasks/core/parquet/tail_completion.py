"""Completes the tail of an enriched file: adds page index and footer after the pages of the new columns."""

import logging
import os
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import pyarrow as pa

from tasks.core.parquet import enriched_footer, page_index, thrift
from tasks.core.parquet.column_chunk import Chunk
from tasks.core.parquet.footer import MAGIC, Footer
from tasks.core.parquet.footer_fields import CHUNKS, ROW_GROUPS
from tasks.core.parquet.footer_reading import read_footer
from tasks.core.parquet.thrift import Struct
from tasks.core.storage.reading import SeekableFile

logger = logging.getLogger(__name__)

_LARGE_FOOTER_BYTES = 16 * 2**20
"""Some readers parse the whole footer first. Chosen so that 1,500 columns with 50 row groups (9 MB) pass."""


def complete_tail(
    file: BinaryIO,
    nulls: Sequence[Sequence[int]],
    source_file: SeekableFile,
    source: Footer,
    fields: Sequence[pa.Field],
    facts: Mapping[str, str],
) -> None:
    """Turn the temporary file with the new columns into the tail of the enriched file.

    Args:
        file: A complete Parquet file with the new columns; afterwards, everything after its leading magic
            number is the tail.
        nulls: Number of null values of each new column in each row group.
        source_file: The open source.
        source: Its footer.
        fields: The new columns.
        facts: Entries to add to the footer's metadata.

    Raises:
        PartitionError: The new footer is wrong.
    """
    size_bytes = source_file.seek(0, os.SEEK_END)
    shift_bytes = size_bytes - len(MAGIC)
    new = read_footer(file)
    own = [list(map(thrift.parse, group[CHUNKS].items)) for group in new.fields[ROW_GROUPS].structs]
    groups = [
        [
            enriched_footer.moved_chunk(chunk, shift_bytes, count)
            for chunk, count in zip(chunks, counts, strict=True)
        ]
        for chunks, counts in zip(own, nulls, strict=True)
    ]
    end = max((Chunk.of(chunk).end for group in groups for chunk in group), default=size_bytes)
    bodies = [page_index.shifted(one, shift_bytes) for one in _bodies(own, file)]
    file.seek(end - shift_bytes)
    file.truncate()
    chunks = _with_index(groups, bodies, source_file, source, file, end)
    footer = enriched_footer.build(source, new, chunks, fields, facts)
    enriched_footer.verify(footer, source, fields, range(size_bytes, end))
    file.write(footer + len(footer).to_bytes(4, "little") + MAGIC)
    file.flush()
    if len(footer) > _LARGE_FOOTER_BYTES:
        logger.warning("The footer has %d MB: some readers open such a file slowly", len(footer) // 10**6)


def _with_index(
    groups: Sequence[Sequence[Struct]],
    new_bodies: Sequence[page_index.Bodies],
    source_file: SeekableFile,
    source: Footer,
    file: BinaryIO,
    at: int,
) -> list[list[bytes]]:
    """All chunks of each row group; writes the page index of the old and the new chunks to the tail."""
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
