"""Decodes a Parquet file's footer, page index and page headers without a Parquet library.

A decoder of Thrift's compact protocol that is independent of the product's; it decodes everything.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Struct = dict[int, Any]
"""A struct's values by field id."""

_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LISTS, _MAP, _STRUCT = 1, 2, 3, 7, 8, (9, 10), 11, 12
_DATA_PAGES = {0: 5, 3: 8}
"""Types of data pages, each with the field id of its specific header in the page header."""


class Compact:
    """Decodes values in Thrift's compact protocol, one after the other.

    Args:
        data: The bytes.
        at: Where the first value begins.
    """

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def struct(self) -> Struct:
        """Decode a struct."""
        found: Struct = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer()
            kind = head & 15
            found[number] = kind == _TRUE if kind in {_TRUE, _FALSE} else self._value(kind)
        return found

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) > 127:
            value |= (byte & 127) << shift
            shift += 7
        return value | byte << shift

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _bytes(self, length: int) -> bytes:
        self.at += length
        return bytes(self.data[self.at - length : self.at])

    def _value(self, kind: int) -> Any:
        if kind in {_TRUE, _FALSE, _BYTE}:
            return self._byte()
        if kind == _DOUBLE:
            return self._bytes(8)
        if kind == _BINARY:
            return self._bytes(self._varint())
        if kind in _LISTS:
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._varint()
            return [self._value(head & 15) for _ in range(count)]
        if kind == _MAP:
            count = self._varint()
            kinds = self._byte() if count else 0
            return [(self._value(kinds >> 4), self._value(kinds & 15)) for _ in range(count)]
        return self.struct() if kind == _STRUCT else self._integer()


def footer(data: bytes) -> Struct:
    """Decode the FileMetaData at the end of a file."""
    assert data[-4:] == b"PAR1"
    length = int.from_bytes(data[-8:-4], "little")
    decoder = Compact(data[-8 - length : -8])
    found = decoder.struct()
    assert decoder.at == length
    return found


@dataclass(frozen=True, slots=True)
class Chunk:
    """A column chunk, decoded from the file's bytes.

    Attributes:
        data: The whole file.
        fields: The chunk's ColumnChunk.
        rows: Rows of its row group.
    """

    data: bytes
    fields: Struct
    rows: int

    @property
    def name(self) -> str:
        """Its path in the schema."""
        return ".".join(part.decode() for part in self.fields[3][3])

    @property
    def start(self) -> int:
        """Offset of its first page."""
        offsets: list[int] = [offset for number in (9, 10, 11) if (offset := self.fields[3].get(number))]
        return min(offsets)

    def pages(self) -> Iterator[tuple[int, int, int]]:
        """Offset, size with header, and number of values of each data page, from the page headers."""
        metadata = self.fields[3]
        at = self.start
        end = at + metadata[7]
        while at < end:
            decoder = Compact(self.data, at)
            header = decoder.struct()
            size = decoder.at - at + header[3]
            if header[1] in _DATA_PAGES:
                yield at, size, header[_DATA_PAGES[header[1]]][1]
            at += size
        assert at == end

    @property
    def has_index(self) -> bool:
        """Whether it has an offset index."""
        return 4 in self.fields

    def locations(self) -> list[tuple[int, int, int]]:
        """Offset, size with header, and first row of each page, from the offset index."""
        decoder = Compact(self.data, self.fields[4])
        found = decoder.struct()[1]
        assert decoder.at == self.fields[4] + self.fields[5]
        return [(page[1], page[2], page[3]) for page in found]


def without_index(chunk: Struct) -> Struct:
    """A ColumnChunk without the fields of its page index."""
    return {number: value for number, value in chunk.items() if number not in {4, 5, 6, 7}}


def chunks(data: bytes) -> Iterator[Chunk]:
    """All chunks of a file, in the order of row groups."""
    for group in footer(data)[4]:
        for fields in group[1]:
            yield Chunk(data, fields, group[3])


def assert_page_index_is_right(data: bytes) -> int:
    """Assert that every page location points to a page header and has the page's first row.

    Returns:
        How many pages were checked.
    """
    checked = 0
    schema = footer(data)[2]
    flat = all(element.get(3) != 2 for element in schema)
    for chunk in filter(lambda chunk: chunk.has_index, chunks(data)):
        pages, locations = list(chunk.pages()), chunk.locations()
        assert [page[:2] for page in pages] == [location[:2] for location in locations], chunk.name
        firsts = [location[2] for location in locations]
        assert firsts == sorted(set(firsts)), chunk.name
        assert not firsts or (firsts[0] == 0 and firsts[-1] < chunk.rows), chunk.name
        if flat:
            values = [page[2] for page in pages]
            assert firsts == [sum(values[:place]) for place in range(len(values))], chunk.name
        checked += len(pages)
    return checked
