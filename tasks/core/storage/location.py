"""Resolves a URL or local path into a folder of an fsspec filesystem.

Listings are never cached, and timeouts are set to seconds. Listing and reading are in ``stored_files``.
"""

import os
import re
from dataclasses import dataclass, replace
from typing import Any

import fsspec
from fsspec.core import split_protocol
from fsspec.implementations.local import LocalFileSystem

from tasks.core.errors import InputError
from tasks.core.escaping import printable
from tasks.core.storage.storage_errors import translate_errors

_CONNECT_TIMEOUT_S = 5
"""Higher survives slower networks; lower detects a dead store sooner. By default botocore waits 60 s."""
_READ_TIMEOUT_S = 10
"""Low enough that a lease renewal may time out twice before the lease expires, and high enough for a part
copy of 16 MB, which S3 answers when it is done."""
_S3FS_TRIES = 2
"""More survives longer outages within one call; fewer reports a failure sooner. s3fs retries on top of
botocore's retries: with two each, a call to a store that never answers takes a minute, and a rejected call is
sent six times in two or three seconds."""
_S3 = {"s3", "s3a"}
_NO_FOLDERS = {"http", "https", "data"}


@dataclass(frozen=True, slots=True)
class Location:
    """A folder of some filesystem.

    Attributes:
        url: The URL or path as the user wrote it, for messages.
        root: The folder's path in the filesystem, without a trailing slash.
        fs: The fsspec filesystem.
    """

    url: str
    root: str
    fs: Any

    @property
    def is_local(self) -> bool:
        """Whether the folder is on a disk of this machine."""
        return isinstance(self.fs, LocalFileSystem)

    @property
    def is_s3(self) -> bool:
        """Whether the folder is in an S3 bucket."""
        protocol = self.fs.protocol
        return not _S3.isdisjoint([protocol] if isinstance(protocol, str) else protocol)

    def with_own_connections(self, most: int) -> "Location":
        """The same folder with a connection pool of its own.

        An S3 client has ten connections, and its requests queue for them in order: a small write waits for
        all uploads before it. Measured: 8.0 s behind 40 uploads that took 8 s, 5 ms with a pool of its own;
        a second client costs 0.08 s of CPU once per process.

        Args:
            most: Maximum number of connections. Locations with the same maximum share a pool.
        """
        if not self.is_s3:
            return self
        options = self.fs.storage_options
        config = {**options.get("config_kwargs", {}), "max_pool_connections": most}
        fs = type(self.fs)(*self.fs.storage_args, **{**options, "config_kwargs": config})
        fs.retries = self.fs.retries
        return replace(self, fs=fs)

    def path(self, key: str) -> str:
        """The full path of a key in the folder."""
        return f"{self.root.rstrip('/')}/{key}"

    def url_of(self, key: str) -> str:
        """The full URL of a key in the folder, for messages."""
        return printable(f"{self.url.rstrip('/')}/{key}")


def locate(url: str) -> Location:
    """Resolve a URL or local path.

    Raises:
        InputError: No installed package supports the URL's scheme, or the URL names no folder.
    """
    scheme = split_protocol(url)[0] or "file"
    _check_url(url, scheme)
    with translate_errors(url):
        try:
            fs, root = fsspec.url_to_fs(os.path.expanduser(url), **_options(scheme))  # noqa: PTH111 - a URL
        except (ImportError, ValueError) as error:
            message = (
                f"Cannot open {url}: {error}. Use s3://bucket/folder, a local path, or install the package."
            )
            raise InputError(message) from None
    if not root.strip("/") and scheme not in {"file", "local"}:
        message = f"{url} names no bucket: use {scheme}://bucket/folder."
        raise InputError(message)
    if scheme in _S3:
        fs.retries = _S3FS_TRIES
    return Location(url, root if root == "/" else root.rstrip("/"), fs)


def _check_url(url: str, scheme: str) -> None:
    """Reject URLs that fsspec would interpret differently than the user meant."""
    if re.match(r"\w[\w+.-]*://[^/]*:[^/]*@", url):
        # The URL is not in the message, since it contains a password.
        message = f"A {scheme}:// URL contains a user and password: set them in the environment instead."
    elif not url.strip():
        message = "A source or destination is empty: use s3://bucket/folder or a local path."
    elif "::" in url:
        message = (
            f"Cannot open {url}: chained URLs (::) are not supported. Use s3://bucket/folder or a local path."
        )
    elif scheme in _NO_FOLDERS:
        message = (
            f"Cannot open {url}: {scheme} has no folders to list. Use s3://bucket/folder or a local path."
        )
    elif re.match(r"\w{2,}:/(?!/)", url):
        message = f"Cannot open {url}: a URL has two slashes after the colon, as in s3://bucket/folder."
    else:
        return
    raise InputError(message)


def _options(scheme: str) -> dict[str, Any]:
    if scheme not in _S3:
        return {}
    # s3fs caches listings for the whole process, so new keys would stay invisible. With default timeouts a
    # call takes seven seconds if the endpoint is down, and an hour if it accepts and never answers.
    timeouts = {"connect_timeout": _CONNECT_TIMEOUT_S, "read_timeout": _READ_TIMEOUT_S}
    return {"use_listings_cache": False, "config_kwargs": {"retries": {"max_attempts": 2}, **timeouts}}
