"""Reply file: a partition's replies in a file of this machine, so that a million of them take no memory.

The file has no name, so it is gone when it is closed or the process ends. It repeats what is durable in the
segments; an output is written from it without reading them again.
"""

import mmap
import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from tasks.core.ledger import segment_format
from tasks.core.storage import atomic_write, temporary_files
from tasks.core.storage.location import Location
from tasks.core.storage.storage_errors import translate_build_errors

_BATCHES_A_TABLE = 64
"""Batches that are mapped before their pages are released: some 16,000 replies, 6 MB. More holds more memory,
fewer cost more calls. Not measured on its own."""

_COLUMNS = ["key", *segment_format.OUTCOME_COLUMNS, "received", "fingerprint"]
_SCHEMA = pa.schema([segment_format.SCHEMA.field(name) for name in _COLUMNS])


class ReplyFile:
    """Replies in the order they were added; methods may be called from several threads.

    Args:
        place: The destination; on a disk, the file is made there, as other temporary files of outputs are.
        name: The partition, for messages.
    """

    def __init__(self, place: Location, name: str) -> None:
        self._place = place
        self._name = name
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        self._stream: pa.RecordBatchWriter | None = None
        self._is_closed = False

    def add(self, table: pa.Table) -> None:
        """Add replies, a table of ``segment_format.SCHEMA``; none when the file is closed.

        Raises:
            StorageError: The disk does not take them; then the file is of no further use.
        """
        if not len(table):
            return
        with self._lock, translate_build_errors(self._folder, self._name):
            if self._is_closed:
                return
            if self._stream is None:
                self._file = temporary_files.unnamed_file(self._folder)
                self._stream = pa.ipc.new_stream(self._file, _SCHEMA)
            self._stream.write_table(table.select(_COLUMNS))

    def mapped(self) -> "MappedReplies":
        """Map what was added so far into memory.

        Raises:
            StorageError: The disk does not take what is buffered.
        """
        with self._lock:
            if self._file is None:
                return MappedReplies(None)
            with translate_build_errors(self._folder, self._name):
                self._file.flush()
                return MappedReplies(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ))

    def close(self) -> None:
        """Remove the file; what is mapped stays readable."""
        with self._lock:
            self._is_closed = True
            file, self._file, self._stream = self._file, None, None
            # What a full disk did not take is written once more, for nothing.
            with suppress(OSError):
                if file is not None:
                    file.close()

    @property
    def _folder(self) -> Path:
        return atomic_write.temporary_folder(self._place)


class MappedReplies:
    """A file of replies that is mapped into memory.

    Args:
        memory: The mapped file; None when it is empty.
    """

    def __init__(self, memory: mmap.mmap | None) -> None:
        self._memory = memory

    def tables(self) -> Iterator[pa.Table]:
        """All replies; their values stay in the file until they are read."""
        if self._memory is None:
            return
        batches = iter(pa.ipc.open_stream(self._memory))
        while some := list(islice(batches, _BATCHES_A_TABLE)):
            yield pa.Table.from_batches(some)
            self.release()

    def release(self) -> None:
        """Give back the memory of pages that were read; they count as this process's until then."""
        if self._memory is not None:
            self._memory.madvise(mmap.MADV_DONTNEED)
