"""The page index of an enriched file: all of its bodies side by side in front of the new footer.

A reader may fetch everything between the first body and the last, so bodies at both ends of a file would make
it read the whole file. Page locations in the bodies of old columns stay valid, since their pages do not move.
"""

from collections.abc import Callable, Iterator, Sequence

from tasks.core.parquet import thrift
from tasks.core.parquet.footer import Footer
from tasks.core.parquet.footer_fields import CHUNKS, ROW_GROUPS
from tasks.core.parquet.thrift import Lists, Struct, edited, integer

_OFFSET_INDEX, _COLUMN_INDEX = 4, 6
"""Fields of ColumnChunk: where a body is; the next field is its length."""
_PAGES, _PAGE_OFFSET = 1, 1
"""The locations in an OffsetIndex, and the offset in each."""
_GAP_BYTES = 64 * 1024
"""Between bodies that are read at once."""

Bodies = dict[int, bytes]
"""The bodies of one chunk, by the field that says where each is."""
Read = Callable[[int, int], bytes]
"""Reads so many bytes from a place of a file."""


def has_any(footer: Footer) -> bool:
    """Whether a chunk of a file has a body."""
    return any(
        _has_index(chunk) for group in footer.fields[ROW_GROUPS].structs for chunk in group[CHUNKS].items
    )


def _has_index(chunk: bytes) -> bool:
    # A chunk that ends with its metadata ends with two stops, that of the metadata and its own; to parse each
    # of very many chunks would take a second.
    return not chunk.endswith(b"\0\0") and not {_OFFSET_INDEX, _COLUMN_INDEX}.isdisjoint(thrift.parse(chunk))


def read_bodies(chunks: Sequence[Struct], read: Read, size_bytes: int) -> list[Bodies]:
    """The bodies of every chunk; none for a chunk whose bodies are not within the file.

    Args:
        chunks: Chunks of one file.
        read: Reads from that file.
        size_bytes: Its size.
    """
    spans = [dict(_spans(chunk, size_bytes)) for chunk in chunks]
    found: dict[tuple[int, int], bytes] = {}
    for start, end, members in _merged(sorted(span for one in spans for span in one.values())):
        data = read(start, end - start)
        found |= {span: data[span[0] - start : span[1] - start] for span in members}
    return [{kind: found[span] for kind, span in one.items()} for one in spans]


def shifted(bodies: Bodies, shift_bytes: int) -> Bodies:
    """The bodies of a chunk whose pages were moved."""
    if _OFFSET_INDEX not in bodies:
        return bodies
    index = thrift.parse(bodies[_OFFSET_INDEX], Lists({_PAGES: Lists()}))
    pages = [
        edited(page, integer(_PAGE_OFFSET, page[_PAGE_OFFSET].int + shift_bytes))
        for page in index[_PAGES].structs
    ]
    return bodies | {_OFFSET_INDEX: edited(index, thrift.array(_PAGES, pages))}


def place(
    chunks: Sequence[Struct], bodies: Sequence[Bodies], at: int, write: Callable[[bytes], object]
) -> tuple[list[Struct], int]:
    """Write the bodies of a row group, and say in its chunks where they are.

    Args:
        chunks: The row group's chunks.
        bodies: The bodies of each.
        at: Where in the enriched file the first is written.
        write: Writes the next bytes.

    Returns:
        The chunks, and where the next body is written.
    """
    placed = list(chunks)
    for kind in (_COLUMN_INDEX, _OFFSET_INDEX):
        for number, body in enumerate(one.get(kind) for one in bodies):
            if body is not None:
                where = integer(kind, at), integer(kind + 1, len(body), thrift.I32)
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
    """Ranges that hold spans close to each other: start, end and the spans."""
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
