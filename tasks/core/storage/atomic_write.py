"""Atomic writes of small files, and a check that the destination can be written.

A reader sees a complete file or none, also after an exception or a kill. After an exception nothing is left
behind; after a kill an unfinished file may be left in the folder ``_aside``, which readers skip.
"""

import errno
import uuid
from collections.abc import Sequence
from contextlib import suppress
from glob import has_magic
from pathlib import Path

from tasks.core.errors import InputError
from tasks.core.storage import atomic_write_local, temporary_files
from tasks.core.storage.location import Location
from tasks.core.storage.storage_errors import is_name_taken, translate_errors

ASIDE_FOLDER = atomic_write_local.ASIDE_FOLDER
_CANNOT_BE_WRITTEN = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT}


def temporary_folder(location: Location) -> Path:
    """The folder for temporary files of an output: the destination if that is local, else ``TMPDIR``.

    Raises:
        StorageError: It cannot be created.
    """
    if not location.is_local:
        return temporary_files.folder()
    folder = Path(location.root)
    with translate_errors(location.url):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def check_writable(location: Location) -> None:
    """Write and remove a small file, to detect a missing bucket or permission before the first request.

    Raises:
        InputError: The destination does not exist, or write access is denied.
        StorageError: The store does not answer.
    """
    with translate_errors(location.url):
        try:
            if location.is_local:
                with atomic_write_local.unfinished_file(location.root):
                    return
            with temporary_files.unnamed_file(temporary_files.folder()):
                pass
            probe = location.path(f"{ASIDE_FOLDER}/probe-{uuid.uuid4().hex}")
            location.fs.pipe_file(probe, b"probe")
        except OSError as error:
            if error.errno not in _CANNOT_BE_WRITTEN and not isinstance(error, FileNotFoundError):
                raise
            message = (
                f"Destination {location.url} cannot be written: create it, correct its name, or grant access."
            )
            raise InputError(message) from None
        location.fs.rm_file(probe)


def write(location: Location, key: str, data: bytes) -> None:
    """Write a small file atomically; it is durable when this returns.

    Args:
        location: The folder.
        key: A name that is used for this content only, or by one writer only, so that writing it twice, as
            after a lost reply, does no harm.
        data: The content.

    Raises:
        StorageError: The file may or may not exist; trying again is safe.
    """
    target = location.path(key)
    with translate_errors(location.url, key):
        if location.is_local:
            path = Path(target)
            path.parent.mkdir(parents=True, exist_ok=True)
            building = path.with_name(f".{uuid.uuid4().hex}")
            try:
                building.write_bytes(data)
                atomic_write_local.publish_by_rename(building, path)
            finally:
                building.unlink(missing_ok=True)
            return
        location.fs.pipe_file(target, data)


def create_exclusive(location: Location, key: str, data: bytes) -> bool:
    """Create a small file unless it exists; of several concurrent callers exactly one succeeds.

    Args:
        location: The folder.
        key: The name.
        data: The content; it must differ between callers.

    Returns:
        Whether this call created the file.

    Raises:
        StorageError: The file may or may not exist.
    """
    target = location.path(key)
    with translate_errors(location.url, key):
        try:
            if location.is_local:
                atomic_write_local.create_exclusive(data, Path(target))
            else:
                location.fs.pipe_file(target, data, mode="create")
        except OSError as error:
            if not is_name_taken(error):
                raise
            # Maybe this call created it: the store's client repeats a request whose reply was lost.
            with suppress(FileNotFoundError):
                return bool(location.fs.cat_file(target) == data)
            return False
    return True


def remove(location: Location, keys: Sequence[str]) -> None:
    """Remove files; missing ones are ignored.

    Raises:
        StorageError: Some files were not removed.
    """
    paths = [location.path(key) for key in keys]
    with translate_errors(location.url):
        if location.is_s3 and paths and not any(map(has_magic, paths)):
            # Removes 1,000 keys in one request, missing ones included. It expands patterns, so keys with
            # wildcards are removed one by one below.
            location.fs.rm(paths)
            return
        for path in paths:
            with suppress(FileNotFoundError):
                location.fs.rm_file(path)


def remove_empty_folder(location: Location, key: str) -> None:
    """Remove a folder of a local disk if it is empty; object stores have none."""
    if location.is_local:
        atomic_write_local.remove_if_empty(Path(location.path(key)))
