"""The filesystem: find and read, on any location.

Every failure of a store leaves here as a ``StorageError``, or as an ``InputError`` when the place itself is
wrong. What a file contains is not its business, and writing is ``publishing``'s.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from tasks.core.errors import InputError, StorageError
from tasks.core.escaping import printable
from tasks.core.storage.location import Location
from tasks.core.storage.storage_errors import translate_errors

_VERSIONS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file as listed: path, size in bytes, and what changes when its bytes change."""

    path: str
    size_bytes: int
    version: str


def list_files(location: Location, path: str) -> list[StoredFile]:
    """Every file at or below a path, sorted by path; empty when nothing is there.

    Raises:
        InputError: The bucket may not be read.
        StorageError: The store does not answer.
    """
    with translate_errors(location.url):
        if location.is_local:
            listed = _walk_disk(location.fs, path)
        else:
            try:
                listed = location.fs.find(path, detail=True, withdirs=False)
            except FileNotFoundError:
                listed = {}
    # An object store may list a folder's marker as an empty file of the folder's name.
    files = [
        _stored_file(name, info)
        for name, info in listed.items()
        if info["type"] == "file" and name[-1:] != "/"
    ]
    return sorted(files, key=lambda file: file.path)


def check_bucket_exists(location: Location) -> None:
    """Distinguish an empty folder from a missing bucket, which listings do not.

    Raises:
        InputError: There is no such bucket.
    """
    bucket = location.root.partition("/")[0]
    with translate_errors(location.url):
        if location.is_s3 and not location.fs.exists(bucket):
            message = f"{location.url}: there is no bucket {bucket}, or it may not be seen; correct its name."
            raise InputError(message)


def names_with_prefix(location: Location, folder: str, prefix: str) -> list[str]:
    """Names directly in a folder below a location that begin with a prefix; no deeper listing is read.

    Raises:
        InputError: The bucket may not be read.
        StorageError: The store does not answer.
    """
    path = location.path(folder)
    with translate_errors(location.url, folder):
        try:
            if location.is_s3:
                paths = location.fs.find(path, prefix=prefix)
            else:
                paths = location.fs.ls(path, detail=False)
        except FileNotFoundError:
            return []
    return [name for found in paths if (name := found.rpartition("/")[2]).startswith(prefix)]


def folder_entries(location: Location, folder: str) -> Iterator[str]:
    """Names directly in any folder of a location's filesystem, page by page; none if it may not be listed.

    Args:
        location: Has the filesystem.
        folder: A path of that filesystem; it may lie outside of the location.

    Raises:
        StorageError: The store does not answer.
    """
    # Only of these two it is known which error means a missing right.
    denied = PermissionError if location.is_s3 or location.is_local else OSError
    with translate_errors(location.url), suppress(FileNotFoundError, NotADirectoryError, denied):
        paths = _pages(location.fs, folder) if location.is_s3 else location.fs.ls(folder, detail=False)
        for path in paths:
            if (name := path.rstrip("/").removeprefix(folder).strip("/")) and "/" not in name:
                yield name


def _pages(fs: Any, folder: str) -> Iterator[str]:
    """The same of a bucket; s3fs would list the folder above when a folder is empty."""
    bucket, prefix, _ = fs.split_path(f"{folder}/")
    page: dict[str, str] = {}
    while True:
        listed = fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, Delimiter="/", **page)
        yield from (f"{bucket}/{found['Key']}" for found in listed.get("Contents", []))
        yield from (f"{bucket}/{found['Prefix']}" for found in listed.get("CommonPrefixes", []))
        if not listed.get("IsTruncated"):
            return
        page = {"ContinuationToken": listed["NextContinuationToken"]}


def _walk_disk(fs: Any, path: str) -> dict[str, dict[str, Any]]:
    """The files below a path; fsspec's own walk passes over folders it may not read, partitions and all."""

    def refuse(error: OSError) -> None:
        if os.path.lexists(error.filename):
            raise error

    if not os.path.isdir(path):  # noqa: PTH112 - a filesystem's path
        names = [path] if fs.isfile(path) else []
    else:
        walk = os.walk(path, onerror=refuse, followlinks=True)
        names = [f"{folder.rstrip('/')}/{name}" for folder, _, files in walk for name in files]
    return {name: info for name in names if (info := _info(fs, name)) is not None}


def _info(fs: Any, name: str) -> dict[str, Any] | None:
    """A file's facts, None when a run removed it meanwhile; for a broken link the error has its name."""
    with translate_errors(name):
        try:
            return cast("dict[str, Any]", fs.info(name))
        except FileNotFoundError:
            if os.path.lexists(name):
                raise
            return None


def read_tails(
    location: Location, files: Sequence[tuple[str, int]], tail_bytes: int
) -> list[bytes | Exception]:
    """The last bytes of many files at once, concurrently where the filesystem can.

    Args:
        location: Where they are.
        files: Path and size in bytes of each.
        tail_bytes: How much to read of each.

    Returns:
        For each file its last bytes, or the error that reading it met.
    """
    starts = [max(0, size - tail_bytes) for _, size in files]
    with translate_errors(location.url):
        tails = location.fs.cat_ranges(
            [path for path, _ in files], starts, [size for _, size in files], on_error="return"
        )
    return cast("list[bytes | Exception]", tails)


def read_files(location: Location, paths: Sequence[str]) -> list[bytes | Exception]:
    """The contents of many small files at once, concurrently where the filesystem can.

    Returns:
        For each file its bytes, or the error that reading it met.
    """
    with translate_errors(location.url):
        # Not `cat`, which takes brackets in a name for a pattern.
        whole = [None] * len(paths)
        contents = location.fs.cat_ranges(list(paths), whole, whole, on_error="return")
    return cast("list[bytes | Exception]", contents)


def stat(location: Location, path: str) -> StoredFile:
    """A file as it is now.

    Raises:
        StorageError: The file is gone, or the store does not answer.
    """
    with translate_errors(location.url, path):
        return _stored_file(path, location.fs.info(path))


def find_file(location: Location, path: str) -> StoredFile | None:
    """The file under a path; None when there is none.

    Raises:
        InputError: It may not be seen.
        StorageError: The store does not answer.
    """
    with translate_errors(location.url, path):
        try:
            info = location.fs.info(path)
        except FileNotFoundError:
            return None
    return _stored_file(path, info) if info["type"] == "file" else None


def check_unchanged(location: Location, before: StoredFile) -> None:
    """Check that a file is still the one that was found before.

    Raises:
        StorageError: It was replaced or removed meanwhile, or the store does not answer.
    """
    with translate_errors(location.url, before.path):
        if stat(location, before.path) != before:
            message = f"{location.url} ({printable(before.path)}) was replaced while it was read; run again."
            raise StorageError(message)


def check_not_replaced(location: Location, key: str, before: StoredFile | None) -> None:
    """Check that a key still holds what was found before, or still nothing.

    Raises:
        StorageError: Others wrote or removed it meanwhile.
    """
    now = find_file(location, location.path(key))
    if (now and (now.size_bytes, now.version)) != (before and (before.size_bytes, before.version)):
        raise replaced_error(location, key)


def replaced_error(location: Location, key: str) -> StorageError:
    """The error for a key that others wrote meanwhile."""
    return StorageError(f"{location.url_of(key)} was replaced by others while it was made; run again.")


def _stored_file(path: str, info: dict[str, Any]) -> StoredFile:
    if isinstance(info.get("created"), datetime):
        # memory:// lists a number, and answers with a time when it is asked for one file.
        info = {**info, "created": info["created"].timestamp()}
    version = next((info[name] for name in _VERSIONS if info.get(name)), "")
    # A file that replaces another by a rename may carry the other's times.
    inode = f"-{info['ino']}" if info.get("ino") else ""
    return StoredFile(path, int(info["size"] or 0), str(version).strip('"') + inode)
