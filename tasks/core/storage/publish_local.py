"""Publishes a source with a tail on a local disk, which copies by itself where it can.

A later change of the source never reaches the copy: a clone is copied on write, and a hard link is not made.
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
"""linux/fs.h; ``fcntl`` names it from Python 3.12 on."""
_MOST_AT_ONCE_BYTES = 2**30


def publish(output: OutputBytes, destination: Location, key: str, replaces: StoredFile | None) -> Transfer:
    """Publish an output on a local disk.

    Raises:
        InputError: The source or the destination may not be read or written.
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
    """Have the disk copy the source; returns the bytes it copied, 0 when it cannot."""
    with Path(output.file.path).open("rb") as source:
        size = output.file.size_bytes
        for way in (_clone, _copy_range):
            if way(source.fileno(), file.fileno(), size):
                return size
            os.ftruncate(file.fileno(), 0)
    return 0


def _clone(source: int, target: int, size: int) -> bool:
    """Let both files share their blocks until one is changed: XFS and btrfs do."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return os.fstat(target).st_size == size


def _copy_range(source: int, target: int, size: int) -> bool:
    """Copy inside the kernel, on some network filesystems inside the server."""
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
    """Read back samples of what the disk copied and all of what was written."""
    is_right = os.fstat(file.fileno()).st_size == output.size_bytes and digest_of(file, copied) == digest
    for start, stop in output.samples() if copied else ():
        is_right = is_right and os.pread(file.fileno(), stop - start, start) == output.read(start, stop)
    if not is_right:
        message = f"{output.file.path}: its copy differs from it; check the disk, and run again."
        raise StorageError(message)


def _make_visible(built: Path, destination: Location, key: str, replaces: StoredFile | None) -> None:
    target = Path(destination.path(key))
    if replaces is None:
        try:
            atomic_write_local.publish_exclusive(built, target)
        except FileExistsError:
            raise stored_files.replaced_error(destination, key) from None
        return
    # Between this and the rename another writer's file could still be lost; the lease keeps others away.
    stored_files.check_not_replaced(destination, key, replaces)
    atomic_write_local.publish_by_rename(built, target)
