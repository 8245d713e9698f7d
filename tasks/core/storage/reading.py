"""Reads ranges of a file, counts the bytes, and checks that the file does not change meanwhile."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO, Protocol

from tasks.core.errors import PartitionError
from tasks.core.storage.location import Location
from tasks.core.storage.storage_errors import translate_errors
from tasks.core.storage.stored_files import StoredFile, check_unchanged

_WHOLE_BYTES = 4 * 2**20
"""Smaller files are read with one request, larger ones by range: the latency of a request equals the transfer
of a few MB."""
_LEAST_BYTES = 256 * 1024
"""Fewer requests against unneeded bytes: one request covers several small row groups; of a large one at most
this much is read in vain."""


class SeekableFile(Protocol):
    """An open file that can be read and positioned."""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        ...

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Set the position, and return it."""
        ...


class CountingFile(io.RawIOBase):
    """An open file that counts the bytes read, and raises this project's errors.

    Args:
        file: The file.
        where: The location as the user wrote it, for messages.
        what: The file's path in it, for messages.
        least_bytes: Minimum size of a read, so that small reads close to each other are one request.
    """

    def __init__(self, file: BinaryIO, where: str, what: str, least_bytes: int = 0) -> None:
        super().__init__()
        self._file = file
        self._failures = partial(translate_errors, where, what)
        self._least_bytes = least_bytes
        self._at = self._held_at = 0
        self._held = b""
        self.bytes_read = 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        start = self._at - self._held_at
        if size < 0 or start < 0 or start + size > len(self._held):
            self._fetch(size)
            start = 0
        data = self._held[start : start + size] if size >= 0 else self._held
        self._at += len(data)
        return data

    def _fetch(self, size: int) -> None:
        with self._failures():
            self._file.seek(self._at)
            self._held = self._file.read(max(size, self._least_bytes) if size >= 0 else -1)
        self._held_at = self._at
        self.bytes_read += len(self._held)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position, and return it."""
        with self._failures():
            self._at = offset + self._at if whence == os.SEEK_CUR else self._file.seek(offset, whence)
        return self._at

    def tell(self) -> int:
        """The position."""
        return self._at

    def seekable(self) -> bool:
        """Always."""
        return True

    def readable(self) -> bool:
        """Always."""
        return True

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


@contextmanager
def open_to_read(location: Location, found: StoredFile) -> Iterator[CountingFile]:
    """Open a file for reading in ranges.

    Args:
        location: The folder.
        found: The file as listed; it must not change while it is open.

    Raises:
        StorageError: The file was removed or replaced, or the store does not answer.
    """
    cache = "all" if found.size_bytes <= _WHOLE_BYTES else "none"
    options = {} if location.is_local else {"cache_type": cache}
    with translate_errors(location.url, found.path):
        opened = location.fs.open(found.path, "rb", **options)
        what = found.path.removeprefix(location.path(""))
        file = CountingFile(opened, location.url, what, 0 if location.is_local else _LEAST_BYTES)
    with file:
        try:
            yield file
        except PartitionError:
            # A file that was replaced while it was read looks corrupt.
            check_unchanged(location, found)
            raise
    check_unchanged(location, found)
