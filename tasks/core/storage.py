"""The filesystem: find, read and publish, on any fsspec URL.

The only room that talks to fsspec. Listings are never cached, an open file is never published by an
exception, and every failure of a store leaves here as a ``StorageError``, or as an ``InputError`` when the
place itself is wrong. What a file contains is not its business.
"""

import os
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import aiohttp
import fsspec
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError
from fsspec.core import split_protocol
from fsspec.implementations.local import LocalFileSystem

from tasks.core.errors import InputError, PipelineError, StorageError

_ASIDE_FOLDER = "_aside"
_CONNECT_TIMEOUT_S = 10
_READ_BLOCK_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Location:
    """A folder of some filesystem.

    Attributes:
        url: What the user wrote, for people.
        root: The folder's path as the filesystem knows it, without a trailing slash.
        fs: The fsspec filesystem.
    """

    url: str
    root: str
    fs: Any

    @property
    def is_local(self) -> bool:
        """The folder is on a disk of this machine, where a rename publishes."""
        return isinstance(self.fs, LocalFileSystem)

    def path(self, key: str) -> str:
        """The full path of a key below the folder."""
        return f"{self.root.rstrip('/')}/{key}"

    def url_of(self, key: str) -> str:
        """The full URL of a key below the folder, for people."""
        return f"{self.url.rstrip('/')}/{key}"


@dataclass(frozen=True, slots=True)
class Found:
    """One file as listed: path, size in bytes, and what changes when its bytes change."""

    path: str
    size_bytes: int
    version: str


def locate(url: str) -> Location:
    """Resolve a URL or local path.

    Raises:
        InputError: No installed package serves the URL's scheme, or it names no folder.
    """
    scheme = split_protocol(url)[0] or "file"
    with failures_of(url):
        try:
            fs, root = fsspec.url_to_fs(os.path.expanduser(url), **_options(scheme))  # noqa: PTH111 - a URL
        except (ImportError, ValueError) as error:
            message = f"Cannot open {url}: {error}. Use s3://bucket/folder, a local path, or install the package."
            raise InputError(message) from None
    if not root.strip("/") and scheme != "file":
        message = f"{url} names no bucket: use {scheme}://bucket/folder."
        raise InputError(message)
    return Location(url, root if root == "/" else root.rstrip("/"), fs)


def find(location: Location, path: str) -> list[Found]:
    """Every file at or below a path, sorted by path; empty when nothing is there.

    Raises:
        InputError: The bucket is not there or may not be read.
        StorageError: The store does not answer.
    """
    with failures_of(location.url):
        try:
            listed = location.fs.find(path, detail=True, withdirs=False)
        except FileNotFoundError:
            listed = {}
    # An object store may list a folder's marker as an empty file of the folder's name.
    files = [_found(name, info) for name, info in listed.items() if info["type"] == "file" and name[-1:] != "/"]
    return sorted(files, key=lambda file: file.path)


def read_tails(location: Location, files: Sequence[tuple[str, int]], tail_bytes: int) -> list[bytes | Exception]:
    """The last bytes of many files at once, concurrently where the filesystem can.

    Args:
        location: Where they are.
        files: Path and size in bytes of each.
        tail_bytes: How much to read of each.

    Returns:
        For each file its last bytes, or the error that reading it met.
    """
    starts = [max(0, size - tail_bytes) for _, size in files]
    with failures_of(location.url):
        tails = location.fs.cat_ranges(
            [path for path, _ in files], starts, [size for _, size in files], on_error="return"
        )
    return cast("list[bytes | Exception]", tails)


@contextmanager
def open_to_read(location: Location, path: str) -> Iterator[BinaryIO]:
    """Open a file for reading in ranges.

    Raises:
        StorageError: The file is gone, or the store does not answer.
    """
    with failures_of(location.url, path):
        file = location.fs.open(path, "rb", block_size=_READ_BLOCK_BYTES)
    with file:
        yield file


@contextmanager
def aside(location: Location) -> Iterator[Path]:
    """A path of this machine's disk to build a file under, removed at the end.

    On a local destination it is inside the destination, in a folder readers skip, so that publishing is a
    rename; elsewhere it is in the system's folder for temporary files (``TMPDIR``).
    """
    folder = Path(location.path(_ASIDE_FOLDER)) if location.is_local else Path(tempfile.gettempdir())
    with failures_of(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(suffix=".parquet", prefix="building-", dir=folder)
        os.close(handle)
    built = Path(name)
    try:
        yield built
    finally:
        built.unlink(missing_ok=True)
        if location.is_local:
            _remove_if_empty(folder)


def check_writable(location: Location) -> None:
    """Write and remove a small file, so that a missing bucket or right is known before money is spent.

    Raises:
        InputError: The place is not there, or may not be written.
        StorageError: The store does not answer.
    """
    if location.is_local:
        with aside(location):
            return
    probe = location.path(f"{_ASIDE_FOLDER}/probe-{uuid.uuid4().hex}")
    with failures_of(location.url):
        try:
            location.fs.pipe_file(probe, b"probe")
        except FileNotFoundError:
            message = f"Destination {location.url} is not there: create the bucket, or correct the name."
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
        location.fs.put_file(str(built), target)
        if location.fs.info(target)["size"] != built.stat().st_size:
            message = f"{location.url_of(key)} does not have the size that was uploaded; run again."
            raise StorageError(message)


def _publish_by_rename(built: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # mkstemp made it private; a published file has the permissions any new file here would have.
    built.chmod(0o666 & ~_umask())
    _sync_to_disk(built)
    built.replace(target)
    _sync_to_disk(target.parent)


def _remove_if_empty(folder: Path) -> None:
    # Another partition may be building there, or may have removed it already.
    with suppress(OSError):
        folder.rmdir()


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _sync_to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _found(path: str, info: dict[str, Any]) -> Found:
    version = info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("LastModified") or ""
    return Found(path, int(info["size"] or 0), str(version).strip('"'))


def _options(scheme: str) -> dict[str, Any]:
    if scheme not in {"s3", "s3a"}:
        return {}
    # s3fs caches listings for the whole process, so new keys would stay invisible; and it retries on top of
    # botocore's retries, so a dead endpoint would cost seven seconds a call.
    return {
        "use_listings_cache": False,
        "config_kwargs": {"retries": {"max_attempts": 2}, "connect_timeout": _CONNECT_TIMEOUT_S},
    }


@contextmanager
def failures_of(where: str, what: str = "") -> Iterator[None]:
    """Turn whatever a store raises into this project's errors; s3fs raises a dozen classes.

    Args:
        where: The place, as a person knows it.
        what: What in that place, such as a partition's key.

    Raises:
        InputError: Credentials or rights are missing.
        StorageError: Anything else the store or the disk failed at.
    """
    place = f"{where} ({what})" if what else where
    try:
        yield
    except PipelineError:
        raise
    except (NoCredentialsError, PartialCredentialsError):
        message = f"No credentials for {place}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile."
        raise InputError(message) from None
    except PermissionError:
        message = f"Access to {place} is denied: check the credentials and what they may do there."
        raise InputError(message) from None
    except (OSError, BotoCoreError, ClientError, aiohttp.ClientError) as error:
        message = f"{place}: {type(error).__name__} from storage; if it lasts, check the address and the network."
        raise StorageError(message) from error
