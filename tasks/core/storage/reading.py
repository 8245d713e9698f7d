"""Files opened for reading in ranges: counted, and checked to be one version from first byte to last."""

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
"""A request takes as long as some MB: smaller files come whole, larger ones by what is asked for."""
_LEAST_BYTES = 256 * 1024
"""Of small row groups several come with one request; of large ones this much is read too much at most."""


class SeekableFile(Protocol):
    """What is read of an open file."""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        ...

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to a place, which is returned."""
        ...


class CountingFile(io.RawIOBase):
    """An open file that counts the bytes read from it, and raises this project's errors.

    Args:
        file: The file.
        where: The place, as the user wrote it.
        what: Which file in that place.
        least_bytes: Read at once at least, so that small reads close to each other are one request.
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
        """Move to a place."""
        with self._failures():
            self._at = offset + self._at if whence == os.SEEK_CUR else self._file.seek(offset, whence)
        return self._at

    def tell(self) -> int:
        """The place of the next byte."""
        return self._at

    def seekable(self) -> bool:
        """Any place can be read next."""
        return True

    def readable(self) -> bool:
        """It can be read."""
        return True

    def close(self) -> None:
        """Close it."""
        self._file.close()
        super().close()


@contextmanager
def open_to_read(location: Location, found: StoredFile) -> Iterator[CountingFile]:
    """Open a file for reading in ranges.

    Args:
        location: Where it is.
        found: As it was when it was looked at; it has to stay so.

    Raises:
        StorageError: The file is gone, the store does not answer, or the file was replaced meanwhile.
    """
    # A small file comes with one request; of a large one only what is asked for, which is a few columns.
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
            # Half of the old file and half of the new one look corrupt.
            check_unchanged(location, found)
            raise
    check_unchanged(location, found)
