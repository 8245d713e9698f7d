"""Checksums of joined pieces, beside zlib's of the whole."""

import zlib

from hypothesis import given
from hypothesis import strategies as st

from tasks.core.storage import crc32


@given(st.binary(), st.binary(), st.binary())
def test_the_checksum_of_joined_pieces_is_that_of_the_whole(
    first: bytes, second: bytes, third: bytes
) -> None:
    two = crc32.combine(zlib.crc32(first), zlib.crc32(second), len(second))
    assert two == zlib.crc32(first + second)
    assert crc32.combine(two, zlib.crc32(third), len(third)) == zlib.crc32(first + second + third)


@given(st.integers(0, 2**32 - 1))
def test_a_checksum_is_read_as_it_was_written(checksum: int) -> None:
    assert crc32.decode(crc32.encode(checksum)) == checksum
