"""How a finished file becomes visible in the destination: built aside, then published in one step.

A reader of the destination sees the old complete file or the new complete file, after any exception and any
kill. An exception leaves nothing behind; a kill may leave an unfinished file in the folder ``_aside``, which
readers skip, or among this machine's temporary files.
"""

import errno
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from glob import has_magic
from pathlib import Path

from tasks.core.errors import InputError, StorageError
from tasks.core.store import temporary
from tasks.core.store.failures import failures_of, is_taken
from tasks.core.store.location import Location

ASIDE_FOLDER = "_aside"
_UPLOAD = {"chunksize": 16 * 2**20, "max_concurrency": 4}
"""s3fs's own defaults may hold 500 MB of one upload in memory."""
_CANNOT_BE_WRITTEN = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT}
_CREATE_TRIES = 100


@contextmanager
def aside(location: Location) -> Iterator[Path]:
    """A path of this machine's disk to build a file under, removed at the end.

    On a local destination it is inside the destination, in a folder readers skip, so that publishing is a
    rename; elsewhere it is in the system's folder for temporary files (``TMPDIR``).
    """
    folder = _aside_folder(location)
    try:
        built = _create_aside(folder, shared=location.is_local)
    except OSError as error:
        message = (
            f"Cannot build a file in {folder}: {error.strerror}. Free or create the folder, or set TMPDIR."
        )
        raise StorageError(message) from None
    try:
        yield built
    finally:
        built.unlink(missing_ok=True)
        if location.is_local:
            _remove_if_empty(folder)


def _aside_folder(location: Location) -> Path:
    if location.is_local:
        return Path(location.path(ASIDE_FOLDER))
    return temporary.folder()


def _create_aside(folder: Path, *, shared: bool) -> Path:
    """An empty file with the permissions of any new file if it will be published, else a private one."""
    built = folder / (f"building-{uuid.uuid4().hex}.tmp" if shared else temporary.new_name())
    for tries_left in reversed(range(_CREATE_TRIES)):
        try:
            if shared:
                folder.mkdir(parents=True, exist_ok=True)
            os.close(os.open(built, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666 if shared else 0o600))
        except (FileNotFoundError, FileExistsError):
            # Another partition, finished at this moment, may have removed the empty folder.
            if not tries_left or not shared:
                raise
        else:
            break
    return built


def check_writable(location: Location) -> None:
    """Write and remove a small file, so that a missing bucket or right is known before money is spent.

    Raises:
        InputError: The place is not there, or may not be written.
        StorageError: The store does not answer.
    """
    with failures_of(location.url):
        try:
            if location.is_local:
                folder = _aside_folder(location)
                _create_aside(folder, shared=True).unlink()
                _remove_if_empty(folder)
                return
            with aside(location):
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


def publish(built: Path, location: Location, key: str) -> None:
    """Make a finished file visible under its key in one step.

    A rename on a local disk; elsewhere one upload, which an object store makes visible when it is complete.

    Raises:
        StorageError: It was not published; what was under the key before is still there.
    """
    target = location.path(key)
    with failures_of(location.url, key):
        if location.is_local:
            _publish_by_rename(built, Path(target))
            return
        upload = _UPLOAD if location.is_s3 else {}
        location.fs.put_file(str(built), target, **upload)
        if location.fs.info(target)["size"] != built.stat().st_size:
            message = f"{location.url_of(key)} does not have the size that was uploaded; run again."
            raise StorageError(message)


def create(location: Location, key: str, data: bytes) -> None:
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
    with failures_of(location.url, key):
        if location.is_local:
            path = Path(target)
            path.parent.mkdir(parents=True, exist_ok=True)
            building = path.with_name(f".{uuid.uuid4().hex}")
            building.write_bytes(data)
            _publish_by_rename(building, path)
            return
        location.fs.pipe_file(target, data)


def create_new(location: Location, key: str, data: bytes) -> bool:
    """Make a small file under a name nobody has; of all who try, one does.

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
    with failures_of(location.url, key):
        try:
            if location.is_local:
                _create_by_link(data, Path(target))
            else:
                location.fs.pipe_file(target, data, mode="create")
        except OSError as error:
            if not is_taken(error):
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
    with failures_of(location.url):
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
        _remove_if_empty(Path(location.path(key)))


def _create_by_link(data: bytes, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    building = target.with_name(f".{uuid.uuid4().hex}")
    try:
        building.write_bytes(data)
        _sync_to_disk(building)
        try:
            # Unlike a rename it fails when the name is taken; unlike an exclusive open it is whole at once.
            target.hardlink_to(building)
        except FileExistsError:
            raise
        except OSError:
            # Some mounted file systems have no links.
            with target.open("xb") as file:
                file.write(data)
    finally:
        building.unlink(missing_ok=True)
    _sync_to_disk(target.parent)


def _publish_by_rename(built: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    _sync_to_disk(built)
    built.replace(target)
    _sync_to_disk(target.parent)


def _remove_if_empty(folder: Path) -> None:
    # Another partition may be building there, or may have removed it already.
    with suppress(OSError):
        folder.rmdir()


def _sync_to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
