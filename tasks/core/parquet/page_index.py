"""The page index of an enriched file: the indexes of all chunks are written together before the new footer.

A reader may fetch everything from the first to the last index, so indexes at both ends of a file would make
it read the whole file. The page offsets in the indexes of old columns stay valid, since their pages do not
move.
"""

from collections.abc import Callable, Iterator, Sequence

from tasks.core.parquet import thrift
from tasks.core.parquet.footer import Footer
from tasks.core.parquet.footer_fields import CHUNKS, ROW_GROUPS
from tasks.core.parquet.thrift import Lists, Struct, edited, integer_field
from tasks.core.parquet.thrift_values import I32

_OFFSET_INDEX, _COLUMN_INDEX = 4, 6
"""Fields of ColumnChunk with the offset of an index; the next field is its length."""
_PAGES, _PAGE_OFFSET = 1, 1
"""The page locations in an OffsetIndex, and the offset in each."""
_GAP_BYTES = 64 * 1024
"""Indexes closer than this are read with one request: more requests against unneeded bytes; 64 KB take less
time than another request. Not measured."""

Bodies = dict[int, bytes]
"""The serialized indexes of one chunk, by the field with their offset."""
Read = Callable[[int, int], bytes]
"""Reads a number of bytes (second argument) from an offset (first argument)."""


def has_any(footer: Footer) -> bool:
    """Whether any chunk of a file has an index."""
    return any(
        _has_index(chunk) for group in footer.fields[ROW_GROUPS].structs for chunk in group[CHUNKS].items
    )


def _has_index(chunk: bytes) -> bool:
    # A chunk whose last field is its metadata ends with two stop bytes. This cheap check comes first, since
    # parsing very many chunks would take a second.
    return not chunk.endswith(b"\0\0") and not {_OFFSET_INDEX, _COLUMN_INDEX}.isdisjoint(thrift.parse(chunk))


def read_bodies(chunks: Sequence[Struct], read: Read, size_bytes: int) -> list[Bodies]:
    """Read the indexes of all chunks; an index with an offset outside of the file is ignored.

    Args:
        chunks: Chunks of one file.
        read: Reads from this file.
        size_bytes: Size of the file.
    """
    spans = [dict(_spans(chunk, size_bytes)) for chunk in chunks]
    found: dict[tuple[int, int], bytes] = {}
    for start, end, members in _merged(sorted(span for one in spans for span in one.values())):
        data = read(start, end - start)
        found |= {span: data[span[0] - start : span[1] - start] for span in members}
    return [{kind: found[span] for kind, span in one.items()} for one in spans]


def shifted(bodies: Bodies, shift_bytes: int) -> Bodies:
    """The indexes of a chunk after its pages were moved."""
    if _OFFSET_INDEX not in bodies:
        return bodies
    index = thrift.parse(bodies[_OFFSET_INDEX], Lists({_PAGES: Lists()}))
    pages = [
        edited(page, integer_field(_PAGE_OFFSET, page[_PAGE_OFFSET].int + shift_bytes))
        for page in index[_PAGES].structs
    ]
    return bodies | {_OFFSET_INDEX: edited(index, thrift.list_field(_PAGES, pages))}


def place(
    chunks: Sequence[Struct], bodies: Sequence[Bodies], at: int, write: Callable[[bytes], object]
) -> tuple[list[Struct], int]:
    """Write the indexes of a row group, and set their offsets in its chunks.

    Args:
        chunks: The row group's chunks.
        bodies: The indexes of each chunk.
        at: Offset of the first index in the enriched file.
        write: Writes the next bytes.

    Returns:
        The chunks with offsets, and the offset after the last index.
    """
    placed = list(chunks)
    for kind in (_COLUMN_INDEX, _OFFSET_INDEX):
        for number, body in enumerate(one.get(kind) for one in bodies):
            if body is not None:
                where = integer_field(kind, at), integer_field(kind + 1, len(body), I32)
                placed[number] = placed[number] | {field.id: field for field in where}
                write(body)
                at += len(body)
    return placed, at


def _spans(chunk: Struct, size_bytes: int) -> Iterator[tuple[int, tuple[int, int]]]:
    for kind in (_OFFSET_INDEX, _COLUMN_INDEX):
        if kind in chunk and kind + 1 in chunk:
            start, length = chunk[kind].int, chunk[kind + 1].int
            if start > 0 and 0 < length <= size_bytes - start:
                yield kind, (start, start + length)


def _merged(spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """Merge spans that are close to each other: start and end of each range, and its spans."""
    members: list[tuple[int, int]] = []
    end = 0
    for span in spans:
        if members and span[0] > end + _GAP_BYTES:
            yield members[0][0], end, members
            members = []
        end = max(end, span[1]) if members else span[1]
        members.append(span)
    if members:
        yield members[0][0], end, members
