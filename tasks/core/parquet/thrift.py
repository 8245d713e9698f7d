"""Thrift's compact protocol, as far as editing needs it: find a struct's fields, copy or replace their bytes.

Values are skipped, not decoded, so that unknown fields survive byte for byte.
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT, UUID = 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13
_TRUE, _FALSE = 1, 2
_LONG_LIST = 15


class ThriftError(ValueError):
    """The bytes are no Thrift."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a struct.

    Attributes:
        id: Its number.
        kind: The type of its value.
        value: The bytes of its value.
        items: The bytes of each element, of a list that was parsed into its elements ...
        structs: ... and the elements themselves, where they were parsed, too.
    """

    id: int
    kind: int
    value: bytes
    items: "Sequence[bytes]" = ()
    structs: "Sequence[Struct]" = ()

    @property
    def int(self) -> "int":
        """The value of an integer."""
        return number(self.value)

    @property
    def bytes(self) -> "bytes":
        """The value of a string or binary."""
        return self.value[_varint(self.value, 0)[1] :]


Struct = dict[int, Field]
"""A struct's fields by their ids, in the order they were written."""


class Lists(dict[int, "Lists | None"]):
    """Which lists of a struct are parsed: into their elements' bytes (None), or into structs with lists."""


def parse(data: bytes, lists: Lists = Lists()) -> Struct:  # noqa: B008 - never changed
    """The fields of the struct that the bytes begin with.

    Raises:
        ThriftError: They begin with no struct.
    """
    try:
        return _parse(data, 0, lists)[0]
    except (IndexError, RecursionError):
        raise ThriftError from None


def _parse(data: bytes, at: int, lists: Lists) -> tuple[Struct, int]:
    found: Struct = {}
    last = 0
    while header := data[at]:
        at += 1
        if header > _LONG_LIST:
            last += header >> 4
        else:
            last, at = _zigzag(data, at)
        kind, start = header & 15, at
        if kind == LIST and last in lists:
            items, structs, at = _parse_list(data, at, lists[last])
            found[last] = Field(last, kind, data[start:at], items, structs)
            continue
        at = at if kind in {_TRUE, _FALSE} else _skip(data, at, kind)
        found[last] = Field(last, kind, data[start:at])
    return found, at + 1


def _parse_list(data: bytes, at: int, lists: Lists | None) -> tuple[list[bytes], list[Struct], int]:
    count, kind, at = _list_header(data, at)
    if lists is not None and kind != STRUCT and count:
        raise ThriftError
    items, structs = [], []
    for _ in range(count):
        start = at
        if lists is None:
            at = _skip(data, at, kind)
        else:
            one, at = _parse(data, at, lists)
            structs.append(one)
        items.append(data[start:at])
    return items, structs, at


def head(data: bytes, last: int) -> bytes:
    """The bytes of a struct up to the field of a number and with it; fields are in the order of their ids."""
    at = number = 0
    while data[at] and number < last:
        step, kind, at = data[at] >> 4, data[at] & 15, at + 1
        if step:
            number += step
        else:
            number, at = _zigzag(data, at)
        at = at if kind in {_TRUE, _FALSE} else _skip(data, at, kind)
    return data[:at]


def struct(fields: Mapping[int, Field]) -> bytes:
    """The bytes of a struct, fields in the order of their ids."""
    out, last = bytearray(), 0
    for field in sorted(fields.values(), key=lambda field: field.id):
        step = field.id - last
        out += bytes([step << 4 | field.kind]) if 0 < step < 16 else bytes([field.kind]) + zigzag(field.id)  # noqa: PLR2004 - four bits
        out += field.value
        last = field.id
    return bytes(out) + b"\0"


def edited(fields: Mapping[int, Field], *changed: Field) -> bytes:
    """The bytes of a struct with some fields added or replaced."""
    return struct({**fields, **{field.id: field for field in changed}})


def integer(number: int, value: int, kind: int = I64) -> Field:
    """A field of an integer."""
    return Field(number, kind, zigzag(value))


def binary(number: int, value: bytes) -> Field:
    """A field of a string or binary."""
    return Field(number, BINARY, varint(len(value)) + value)


def array(number: int, items: Iterable[bytes], kind: int = STRUCT) -> Field:
    """A field of a list."""
    items = list(items)
    head = bytes([min(len(items), _LONG_LIST) << 4 | kind])
    if len(items) >= _LONG_LIST:
        head += varint(len(items))
    return Field(number, LIST, head + b"".join(items))


def number(value: bytes) -> int:
    """The integer that the bytes begin with."""
    return _zigzag(value, 0)[0]


def varint(number: int) -> bytes:
    """A number that is not negative."""
    out = bytearray()
    while number > 127:  # noqa: PLR2004 - seven bits
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def zigzag(number: int) -> bytes:
    """A number of either sign, of up to 64 bits."""
    return varint((number << 1) ^ (number >> 63))


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while (byte := data[at]) > 127:  # noqa: PLR2004 - seven bits
        number |= (byte & 127) << shift
        shift += 7
        at += 1
    return number | byte << shift, at + 1


def _zigzag(data: bytes, at: int) -> tuple[int, int]:
    unsigned, at = _varint(data, at)
    return (unsigned >> 1) ^ -(unsigned & 1), at


def _list_header(data: bytes, at: int) -> tuple[int, int, int]:
    head = data[at]
    count, at = (head >> 4, at + 1) if head >> 4 != _LONG_LIST else _varint(data, at + 1)
    return count, head & 15, at


def _skip(data: bytes, at: int, kind: int) -> int:
    """The place behind a value."""
    if kind not in _SKIPS:
        raise ThriftError
    return _SKIPS[kind](data, at)


def _skip_struct(data: bytes, at: int) -> int:
    """The place behind a struct; frequent types are skipped here, since a footer may have millions."""
    while head := data[at]:
        at += 1
        if head <= _LONG_LIST:
            at = _varint(data, at)[1]
        kind = head & 15
        if I16 <= kind <= I64:
            while data[at] > 127:  # noqa: PLR2004 - seven bits
                at += 1
            at += 1
        elif kind == BINARY:
            length, at = _varint(data, at)
            at += length
        elif kind > _FALSE:
            at = _skip(data, at, kind)
    return at + 1


def _skip_binary(data: bytes, at: int) -> int:
    length, at = _varint(data, at)
    return at + length


def _skip_list(data: bytes, at: int) -> int:
    count, kind, at = _list_header(data, at)
    for _ in range(count):
        at = _skip(data, at, kind)
    return at


def _skip_map(data: bytes, at: int) -> int:
    count, at = _varint(data, at)
    if not count:
        return at
    kinds, at = data[at], at + 1
    for _ in range(count):
        at = _skip(data, _skip(data, at, kinds >> 4), kinds & 15)
    return at


def _skip_varint(data: bytes, at: int) -> int:
    return _varint(data, at)[1]


def _fixed(width: int) -> "Skip":
    return lambda _, at: at + width


Skip = Callable[[bytes, int], int]
_SKIPS: dict[int, Skip] = {
    # A list keeps a boolean in a byte; a struct keeps it in the field's header.
    **dict.fromkeys((_TRUE, _FALSE, BYTE), _fixed(1)),
    **dict.fromkeys((I16, I32, I64), _skip_varint),
    DOUBLE: _fixed(8),
    UUID: _fixed(16),
    BINARY: _skip_binary,
    LIST: _skip_list,
    SET: _skip_list,
    MAP: _skip_map,
    STRUCT: _skip_struct,
}
