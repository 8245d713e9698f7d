"""How a finished file becomes visible in the destination: built aside, then published in one step.

A reader of the destination sees the old complete file or the new complete file, after any exception and any
kill. An exception leaves nothing behind; a kill may leave an unfinished file in the folder ``_aside``, which
readers skip, or among this machine's temporary files.
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
    """The folder for temporary files of an output: on the disk of a local destination, else this machine's.

    Raises:
        StorageError: It cannot be made.
    """
    if not location.is_local:
        return temporary_files.folder()
    folder = Path(location.root)
    with translate_errors(location.url):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def check_writable(location: Location) -> None:
    """Write and remove a small file, so that a missing bucket or right is known before money is spent.

    Raises:
        InputError: The place is not there, or may not be written.
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
                f"Destination {location.url} cannot be written: create it, correct its name, or its rights."
            )
            raise InputError(message) from None
        location.fs.rm_file(probe)


def write(location: Location, key: str, data: bytes) -> None:
    """Make a small file that is complete or not there; when this returns it is durable.

    Args:
        location: Where.
        key: A name that only this content ever has, or only one writer; so writing it twice, as after a lost
            reply, is no harm.
        data: The content.

    Raises:
        StorageError: It may or may not be there; trying again is safe.
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
    """Create a small file under a name that is free; of all callers that try, one succeeds.

    Args:
        location: Where.
        key: The name.
        data: The content, of which no other caller has the same.

    Returns:
        Whether this call made it.

    Raises:
        StorageError: It may or may not be there.
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
            # Perhaps by this very call: when a reply is lost, the store's client asks again.
            with suppress(FileNotFoundError):
                return bool(location.fs.cat_file(target) == data)
            return False
    return True


def remove(location: Location, keys: Sequence[str]) -> None:
    """Remove files, of which some may be gone.

    Raises:
        StorageError: Some are still there.
    """
    paths = [location.path(key) for key in keys]
    with translate_errors(location.url):
        if location.is_s3 and paths and not any(map(has_magic, paths)):
            # A thousand names in one request, none of which needs to be there; it would expand patterns.
            location.fs.rm(paths)
            return
        for path in paths:
            with suppress(FileNotFoundError):
                location.fs.rm_file(path)


def remove_empty_folder(location: Location, key: str) -> None:
    """Remove a folder of a local disk if it is empty; object stores have none."""
    if location.is_local:
        atomic_write_local.remove_if_empty(Path(location.path(key)))
