"""Lists and reads files in any location.

A failure of the store raises ``StorageError``; a missing bucket or permission raises ``InputError``. Writing
is in ``atomic_write`` and ``publish``.
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
    """One file as listed: path, size in bytes, and a version (ETag, or modification time) of its content."""

    path: str
    size_bytes: int
    version: str


def list_files(location: Location, path: str) -> list[StoredFile]:
    """List all files at or below a path, sorted by path; empty when there are none.

    Raises:
        InputError: Access is denied.
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
    # An object store may list the marker of a folder as an empty file with the folder's name.
    files = [
        _stored_file(name, info)
        for name, info in listed.items()
        if info["type"] == "file" and name[-1:] != "/"
    ]
    return sorted(files, key=lambda file: file.path)


def check_bucket_exists(location: Location) -> None:
    """Check that the bucket exists; the listing of a missing bucket is empty, like that of an empty folder.

    Raises:
        InputError: The bucket does not exist.
    """
    bucket = location.root.partition("/")[0]
    with translate_errors(location.url):
        if location.is_s3 and not location.fs.exists(bucket):
            message = f"{location.url}: bucket {bucket} does not exist or is not visible; correct its name."
            raise InputError(message)


def names_with_prefix(location: Location, folder: str, prefix: str) -> list[str]:
    """List names with a prefix directly in a folder of a location; subfolders are not listed.

    Raises:
        InputError: Access is denied.
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
    """List names directly in a folder, page by page; empty if the folder is missing or access is denied.

    Args:
        location: A location on the same filesystem.
        folder: A path in this filesystem; it may be outside of the location.

    Raises:
        StorageError: The store does not answer.
    """
    # Other filesystems do not raise PermissionError reliably when access is denied.
    denied = PermissionError if location.is_s3 or location.is_local else OSError
    with translate_errors(location.url), suppress(FileNotFoundError, NotADirectoryError, denied):
        paths = _pages(location.fs, folder) if location.is_s3 else location.fs.ls(folder, detail=False)
        for path in paths:
            if (name := path.rstrip("/").removeprefix(folder).strip("/")) and "/" not in name:
                yield name


def _pages(fs: Any, folder: str) -> Iterator[str]:
    """The same for S3; s3fs itself would list the parent folder when a folder is empty."""
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
    """List the files below a path; fsspec's own walk silently skips folders that it may not read."""

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
    """A file's metadata; None if it was removed meanwhile. The error for a broken link contains its name."""
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
    """Read the last bytes of many files, concurrently if the filesystem supports it.

    Args:
        location: The location of the files.
        files: Path and size in bytes of each file.
        tail_bytes: Number of bytes to read from each file.

    Returns:
        For each file its last bytes, or the error.
    """
    starts = [max(0, size - tail_bytes) for _, size in files]
    with translate_errors(location.url):
        tails = location.fs.cat_ranges(
            [path for path, _ in files], starts, [size for _, size in files], on_error="return"
        )
    return cast("list[bytes | Exception]", tails)


def read_files(location: Location, paths: Sequence[str]) -> list[bytes | Exception]:
    """Read many small files, concurrently if the filesystem supports it.

    Returns:
        For each file its bytes, or the error.
    """
    with translate_errors(location.url):
        # `cat` would treat brackets in a name as a pattern.
        whole = [None] * len(paths)
        contents = location.fs.cat_ranges(list(paths), whole, whole, on_error="return")
    return cast("list[bytes | Exception]", contents)


def stat(location: Location, path: str) -> StoredFile:
    """Size and version of a file.

    Raises:
        StorageError: The file does not exist, or the store does not answer.
    """
    with translate_errors(location.url, path):
        return _stored_file(path, location.fs.info(path))


def find_file(location: Location, path: str) -> StoredFile | None:
    """Size and version of a file; None if it does not exist.

    Raises:
        InputError: Access is denied.
        StorageError: The store does not answer.
    """
    with translate_errors(location.url, path):
        try:
            info = location.fs.info(path)
        except FileNotFoundError:
            return None
    return _stored_file(path, info) if info["type"] == "file" else None


def check_unchanged(location: Location, before: StoredFile) -> None:
    """Check that a file has not changed.

    Raises:
        StorageError: It was replaced or removed, or the store does not answer.
    """
    with translate_errors(location.url, before.path):
        if stat(location, before.path) != before:
            message = f"{location.url} ({printable(before.path)}) was replaced while it was read; run again."
            raise StorageError(message)


def check_not_replaced(location: Location, key: str, before: StoredFile | None) -> None:
    """Check that the file under a key has not changed, or still does not exist.

    Raises:
        StorageError: Another writer changed or removed it.
    """
    now = find_file(location, location.path(key))
    if (now and (now.size_bytes, now.version)) != (before and (before.size_bytes, before.version)):
        raise replaced_error(location, key)


def replaced_error(location: Location, key: str) -> StorageError:
    """The error for a key that another writer changed."""
    return StorageError(f"{location.url_of(key)} was replaced by another writer meanwhile; run again.")


def _stored_file(path: str, info: dict[str, Any]) -> StoredFile:
    if isinstance(info.get("created"), datetime):
        # memory:// has a number in listings, and a datetime in the metadata of one file.
        info = {**info, "created": info["created"].timestamp()}
    version = next((info[name] for name in _VERSIONS if info.get(name)), "")
    # A file that replaces another by a rename may have the same modification time.
    inode = f"-{info['ino']}" if info.get("ino") else ""
    return StoredFile(path, int(info["size"] or 0), str(version).strip('"') + inode)
