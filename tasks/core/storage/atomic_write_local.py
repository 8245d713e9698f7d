"""Files on a local disk that appear complete or not at all: built in ``_aside``, synced, linked or renamed.

The folder ``_aside`` is inside the destination, so that publishing stays on one filesystem; readers skip it.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ASIDE_FOLDER = "_aside"
_CREATE_TRIES = 100


@contextmanager
def unfinished_file(root: str) -> Iterator[Path]:
    """An empty file in ``_aside`` below a folder, removed at the end unless it was renamed.

    It has the permissions of any new file.
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
            # Another partition, finished at this moment, may have removed the empty folder.
            if not tries_left:
                raise
        else:
            break
    return path


def create_exclusive(data: bytes, target: Path) -> None:
    """Create a small file under a name that is free.

    Raises:
        FileExistsError: The name is taken.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    built = target.with_name(f".{uuid.uuid4().hex}")
    try:
        built.write_bytes(data)
        sync_to_disk(built)
        try:
            # Unlike a rename it fails when the name is taken; unlike an exclusive open it is whole at once.
            target.hardlink_to(built)
        except FileExistsError:
            raise
        except OSError:
            # Some mounted file systems have no links.
            with target.open("xb") as file:
                file.write(data)
    finally:
        built.unlink(missing_ok=True)
    sync_to_disk(target.parent)


def publish_exclusive(built: Path, target: Path) -> None:
    """Publish a built file under a name that is free.

    Raises:
        FileExistsError: The name is taken.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    sync_to_disk(built)
    try:
        target.hardlink_to(built)
    except FileExistsError:
        raise
    except OSError:
        # Without links nothing checks and renames in one step.
        if os.path.lexists(target):
            raise FileExistsError from None
        built.replace(target)
    sync_to_disk(target.parent)


def publish_by_rename(built: Path, target: Path) -> None:
    """Publish a built file under a name, whether it is free or not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    sync_to_disk(built)
    built.replace(target)
    sync_to_disk(target.parent)


def remove_if_empty(folder: Path) -> None:
    """Remove a folder unless something is in it."""
    # Another partition may be building there, or may have removed it already.
    with suppress(OSError):
        folder.rmdir()


def sync_to_disk(path: Path) -> None:
    """Wait until a file's or folder's content is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
