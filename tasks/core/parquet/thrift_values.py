"""Values in Thrift's compact protocol: encodes and decodes integers, and skips values of any type.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from collections.abc import Callable

BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT, UUID = 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13
TRUE, FALSE = 1, 2
LONG_LIST = 15


class ThriftError(ValueError):
    """The bytes are not valid Thrift."""


def varint(number: int) -> bytes:
    """Encode a non-negative integer."""
    out = bytearray()
    while number > 127:  # noqa: PLR2004 - seven bits
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def zigzag(number: int) -> bytes:
    """Encode a signed integer of up to 64 bits."""
    return varint((number << 1) ^ (number >> 63))


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Decode a non-negative integer; returns it and the offset after it."""
    number = shift = 0
    while (byte := data[at]) > 127:  # noqa: PLR2004 - seven bits
        number |= (byte & 127) << shift
        shift += 7
        at += 1
    return number | byte << shift, at + 1


def read_zigzag(data: bytes, at: int) -> tuple[int, int]:
    """Decode a signed integer; returns it and the offset after it."""
    unsigned, at = read_varint(data, at)
    return (unsigned >> 1) ^ -(unsigned & 1), at


def read_list_header(data: bytes, at: int) -> tuple[int, int, int]:
    """Decode the header of a list: number of elements, their type, and the offset of the first one."""
    head = data[at]
    count, at = (head >> 4, at + 1) if head >> 4 != LONG_LIST else read_varint(data, at + 1)
    return count, head & 15, at


def skip(data: bytes, at: int, kind: int) -> int:
    """The offset after a value."""
    if kind not in _SKIPS:
        raise ThriftError
    return _SKIPS[kind](data, at)


def _skip_struct(data: bytes, at: int) -> int:
    """The offset after a struct; frequent types are inlined, since a footer may have millions of values."""
    while head := data[at]:
        at += 1
        if head <= LONG_LIST:
            at = read_varint(data, at)[1]
        kind = head & 15
        if I16 <= kind <= I64:
            while data[at] > 127:  # noqa: PLR2004 - seven bits
                at += 1
            at += 1
        elif kind == BINARY:
            length, at = read_varint(data, at)
            at += length
        elif kind > FALSE:
            at = skip(data, at, kind)
    return at + 1


def _skip_binary(data: bytes, at: int) -> int:
    length, at = read_varint(data, at)
    return at + length


def _skip_list(data: bytes, at: int) -> int:
    count, kind, at = read_list_header(data, at)
    for _ in range(count):
        at = skip(data, at, kind)
    return at


def _skip_map(data: bytes, at: int) -> int:
    count, at = read_varint(data, at)
    if not count:
        return at
    kinds, at = data[at], at + 1
    for _ in range(count):
        at = skip(data, skip(data, at, kinds >> 4), kinds & 15)
    return at


def _skip_varint(data: bytes, at: int) -> int:
    return read_varint(data, at)[1]


def _fixed(width: int) -> "Skip":
    return lambda _, at: at + width


Skip = Callable[[bytes, int], int]
_SKIPS: dict[int, Skip] = {
    # A boolean in a list is a byte; in a struct it is in the field's header, and `skip` is not called.
    **dict.fromkeys((TRUE, FALSE, BYTE), _fixed(1)),
    **dict.fromkeys((I16, I32, I64), _skip_varint),
    DOUBLE: _fixed(8),
    UUID: _fixed(16),
    BINARY: _skip_binary,
    LIST: _skip_list,
    SET: _skip_list,
    MAP: _skip_map,
    STRUCT: _skip_struct,
}
