"""Publishes an output on a local disk; the kernel copies the source's bytes where it can.

A later change of the source does not change the output: clones are copy-on-write, and no hard link is made.
"""

import fcntl
import os
from pathlib import Path
from typing import BinaryIO

from tasks.core.errors import StorageError
from tasks.core.storage import atomic_write_local, stored_files
from tasks.core.storage.location import Location
from tasks.core.storage.output_bytes import OutputBytes, Transfer, digest_of
from tasks.core.storage.storage_errors import translate_errors
from tasks.core.storage.stored_files import StoredFile

_FICLONE = 0x40049409
"""From linux/fs.h; ``fcntl`` has a name for it from Python 3.12 on."""
_MOST_AT_ONCE_BYTES = 2**30
"""Linux copies at most 2 GB per call; a smaller step would only add system calls."""


def publish(output: OutputBytes, destination: Location, key: str, replaces: StoredFile | None) -> Transfer:
    """Publish an output on a local disk.

    Raises:
        InputError: Access to the source or the destination is denied.
        StorageError: The disk failed, or source or destination were replaced meanwhile; trying again is safe.
    """
    with (
        translate_errors(destination.url, key),
        atomic_write_local.unfinished_file(destination.root) as built,
    ):
        with built.open("r+b") as file:
            copied = _copy(output, file) if output.source.is_local else 0
            digest = output.write_to(file, copied)
            output.check_source()
            _compare(output, file, copied, digest)
        _make_visible(built, destination, key, replaces)
        return Transfer(bytes_read=output.bytes_read, bytes_copied=copied)


def _copy(output: OutputBytes, file: BinaryIO) -> int:
    """Let the filesystem copy the source; returns the bytes copied, 0 if it cannot."""
    with Path(output.file.path).open("rb") as source:
        size = output.file.size_bytes
        for copy in (_clone, _copy_range):
            if copy(source.fileno(), file.fileno(), size):
                return size
            os.ftruncate(file.fileno(), 0)
    return 0


def _clone(source: int, target: int, size: int) -> bool:
    """Clone: both files share blocks until one of them changes. XFS and btrfs support it."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return os.fstat(target).st_size == size


def _copy_range(source: int, target: int, size: int) -> bool:
    """Copy in the kernel, or in the server of some network filesystems."""
    copy = getattr(os, "copy_file_range", None)  # not on macOS
    done = 0
    while copy and done < size:
        try:
            count = copy(source, target, min(size - done, _MOST_AT_ONCE_BYTES), done, done)
        except OSError:
            return False
        if not count:
            return False
        done += count
    return done == size


def _compare(output: OutputBytes, file: BinaryIO, copied: int, digest: bytes) -> None:
    """Verify samples of the copied bytes, and all bytes written by this process."""
    is_right = os.fstat(file.fileno()).st_size == output.size_bytes and digest_of(file, copied) == digest
    for start, stop in output.samples() if copied else ():
        is_right = is_right and os.pread(file.fileno(), stop - start, start) == output.read(start, stop)
    if not is_right:
        message = f"{output.file.path}: its copy has other content; check the disk, and run again."
        raise StorageError(message)


def _make_visible(built: Path, destination: Location, key: str, replaces: StoredFile | None) -> None:
    target = Path(destination.path(key))
    if replaces is None:
        try:
            atomic_write_local.publish_exclusive(built, target)
        except FileExistsError:
            raise stored_files.replaced_error(destination, key) from None
        return
    # Between this check and the rename another writer's file could be lost; the lease prevents that.
    stored_files.check_not_replaced(destination, key, replaces)
    atomic_write_local.publish_by_rename(built, target)
