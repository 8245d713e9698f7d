"""Combined checksums, compared with zlib's checksum of the whole."""

import zlib

from hypothesis import given
from hypothesis import strategies as st

from tasks.core.storage import crc32


@given(st.binary(), st.binary(), st.binary())
def test_the_combined_checksum_equals_that_of_the_whole(first: bytes, second: bytes, third: bytes) -> None:
    two = crc32.combine(zlib.crc32(first), zlib.crc32(second), len(second))
    assert two == zlib.crc32(first + second)
    assert crc32.combine(two, zlib.crc32(third), len(third)) == zlib.crc32(first + second + third)


@given(st.integers(0, 2**32 - 1))
def test_decoding_an_encoded_checksum_returns_it(checksum: int) -> None:
    assert crc32.decode(crc32.encode(checksum)) == checksum
