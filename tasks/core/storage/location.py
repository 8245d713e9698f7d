"""Where something is: a folder of any filesystem that fsspec knows, from a URL or a local path.

Listings are never cached, and a store that does not answer is given up within seconds. What is in there is
``storage``'s to say.
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
_READ_TIMEOUT_S = 10
"""Two tries of a renewal that hang still leave the lease alive."""
_S3FS_TRIES = 2
"""s3fs retries on top of botocore's retries: with two each, a store that never answers costs a minute a call,
and one that refuses is asked six times in two or three seconds."""
_S3 = {"s3", "s3a"}
_NO_FOLDERS = {"http", "https", "data"}


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

    @property
    def is_s3(self) -> bool:
        """The folder is in an S3 bucket."""
        protocol = self.fs.protocol
        return not _S3.isdisjoint([protocol] if isinstance(protocol, str) else protocol)

    def with_own_connections(self, most: int) -> "Location":
        """The same folder through other connections than those of this location.

        A client of S3 has ten connections, and its requests queue for them in the order they came: a small
        write waits for all uploads before it. Measured: 8.0 s behind 40 uploads that took so long, 5 ms
        through connections of its own; a second client costs 0.08 s of CPU once a process.

        Args:
            most: Connections at most. Locations that ask for the same number share them.
        """
        if not self.is_s3:
            return self
        options = self.fs.storage_options
        config = {**options.get("config_kwargs", {}), "max_pool_connections": most}
        fs = type(self.fs)(*self.fs.storage_args, **{**options, "config_kwargs": config})
        fs.retries = self.fs.retries
        return replace(self, fs=fs)

    def path(self, key: str) -> str:
        """The full path of a key below the folder."""
        return f"{self.root.rstrip('/')}/{key}"

    def url_of(self, key: str) -> str:
        """The full URL of a key below the folder, for people."""
        return printable(f"{self.url.rstrip('/')}/{key}")


def locate(url: str) -> Location:
    """Resolve a URL or local path.

    Raises:
        InputError: No installed package serves the URL's scheme, or it names no folder.
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
    """Refuse what fsspec would take for something else than was meant."""
    if re.match(r"\w[\w+.-]*://[^/]*:[^/]*@", url):
        # Not repeated in the message: it holds a password.
        message = f"A {scheme}:// URL holds a user and password: give them in the environment instead."
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
    # s3fs caches listings for the whole process, so new keys would stay invisible; and by default a dead
    # endpoint costs seven seconds a call, one that accepts and never answers, an hour.
    timeouts = {"connect_timeout": _CONNECT_TIMEOUT_S, "read_timeout": _READ_TIMEOUT_S}
    return {"use_listings_cache": False, "config_kwargs": {"retries": {"max_attempts": 2}, **timeouts}}
