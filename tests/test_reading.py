"""Reading ranges of files: right bytes, few requests, and all bytes counted."""

import io
import os
from typing import BinaryIO, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.errors import StorageError
from tasks.core.storage.reading import CountingFile

CONTENT = os.urandom(5000)


class Requests(io.BytesIO):
    """A file that records the size of every read."""

    def __init__(self) -> None:
        super().__init__(CONTENT)
        self.sizes: list[int] = []

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.sizes.append(len(data))
        return data


def opened(least_bytes: int) -> tuple[CountingFile, Requests]:
    requests = Requests()
    return CountingFile(cast("BinaryIO", requests), "s3://bucket", "part.parquet", least_bytes), requests


@given(
    least_bytes=st.sampled_from([0, 1, 100, 9000]),
    steps=st.lists(
        st.tuples(
            st.none() | st.tuples(st.integers(0, 5000), st.sampled_from([os.SEEK_SET, os.SEEK_END])),
            st.integers(-1, 3000),
        ),
        max_size=12,
    ),
)
def test_reads_in_any_order_return_the_right_bytes(
    least_bytes: int, steps: list[tuple[tuple[int, int] | None, int]]
) -> None:
    (file, requests), plain = opened(least_bytes), io.BytesIO(CONTENT)
    for place, size in steps:
        if place is not None:
            offset = -place[0] if place[1] == os.SEEK_END else place[0]
            assert file.seek(offset, place[1]) == plain.seek(offset, place[1])
        assert file.read(size) == plain.read(size)
        assert file.tell() == plain.tell()
    assert file.bytes_read == sum(requests.sizes)


def test_small_reads_close_to_each_other_are_one_request_and_a_large_one_reads_no_more() -> None:
    file, requests = opened(1000)
    for place in range(0, 900, 100):
        file.seek(place)
        file.read(50)
    file.seek(2000)
    file.read(2500)
    assert requests.sizes == [1000, 2500]


def test_an_exception_of_a_store_during_a_read_is_translated() -> None:
    file, requests = opened(0)

    def fail(*_: object) -> bytes:
        raise TimeoutError

    requests.read = fail  # type: ignore[method-assign]
    with pytest.raises(StorageError, match=r"s3://bucket \(part\.parquet\): TimeoutError"):
        file.read(10)
