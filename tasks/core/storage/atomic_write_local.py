"""Atomic writes on a local disk: a file is written to ``_aside``, synced, then linked or renamed.

The folder ``_aside`` is in the destination, so that a rename stays on one filesystem; readers skip it.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ASIDE_FOLDER = "_aside"
_CREATE_TRIES = 100
"""A try fails only if another thread removes the empty folder in the same microseconds; 100 such failures in
a row mean another error, which is then raised within milliseconds."""


@contextmanager
def unfinished_file(root: str) -> Iterator[Path]:
    """Create an empty file in ``_aside`` below a folder; it is removed at the end unless it was renamed.

    Its permissions are those of any new file.
    """
    folder = Path(root, ASIDE_FOLDER)
    built = _create(folder / f"building-{uuid.uuid4().hex}.tmp")
    try:
        yield built
    finally:
        built.unlink(missing_ok=True)
        remove_if_empty(folder)


def _create(path: Path) -> Path:
    for tries_left in reversed(range(_CREATE_TRIES)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(exist_ok=False)
        except (FileNotFoundError, FileExistsError):
            # Another partition that has just finished may have removed the empty folder.
            if not tries_left:
                raise
        else:
            break
    return path


def create_exclusive(data: bytes, target: Path) -> None:
    """Create a small file unless it exists.

    Raises:
        FileExistsError: The file exists.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    built = target.with_name(f".{uuid.uuid4().hex}")
    try:
        built.write_bytes(data)
        sync_to_disk(built)
        try:
            # A rename would replace an existing file; an exclusive open would show an incomplete one.
            target.hardlink_to(built)
        except FileExistsError:
            raise
        except OSError:
            # Some mounted filesystems do not support links.
            with target.open("xb") as file:
                file.write(data)
    finally:
        built.unlink(missing_ok=True)
    sync_to_disk(target.parent)


def publish_exclusive(built: Path, target: Path) -> None:
    """Publish a finished file unless the target exists.

    Raises:
        FileExistsError: The target exists.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    sync_to_disk(built)
    try:
        target.hardlink_to(built)
    except FileExistsError:
        raise
    except OSError:
        # Without links no single call both checks and renames.
        if os.path.lexists(target):
            raise FileExistsError from None
        built.replace(target)
    sync_to_disk(target.parent)


def publish_by_rename(built: Path, target: Path) -> None:
    """Publish a finished file; an existing target is replaced."""
    target.parent.mkdir(parents=True, exist_ok=True)
    sync_to_disk(built)
    built.replace(target)
    sync_to_disk(target.parent)


def remove_if_empty(folder: Path) -> None:
    """Remove a folder if it is empty."""
    # Another partition may be writing into it, or may have removed it.
    with suppress(OSError):
        folder.rmdir()


def sync_to_disk(path: Path) -> None:
    """Flush a file or folder to the disk (``fsync``)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
