"""Which partitions a source holds.

A source is a prefix, a glob (``*``, ``**`` and ``?``; brackets are ordinary characters, since keys contain
them) or one file. Discovery reads listings only; whether a partition can be enriched is the preflight's
question. The order is that of the keys, whatever order the store lists in.
"""

import os
import re

from tasks.core.errors import InputError, SourceError
from tasks.core.model import Discovery, LeftOut, Partition
from tasks.core.store import storage
from tasks.core.store.location import Location, locate
from tasks.core.store.storage import Found

_SUFFIX = ".parquet"
_WILDCARD = re.compile(r"[*?]")


def source_location(source: str) -> Location:
    """The folder that partition keys are relative to: of a glob the last one before the first wildcard.

    Raises:
        InputError: The URL cannot be opened.
    """
    folder = _split(source)[0]
    if folder.endswith((":/", "://")):
        message = (
            f"Source {source} has a wildcard in its bucket: name one bucket, as in s3://bucket/*.parquet."
        )
        raise InputError(message)
    return locate(folder)


def discover(source: str) -> Discovery:
    """List the partitions of a source.

    Raises:
        SourceError: No partition is there; the message says where was looked and for what.
        StorageError: The store does not answer.
    """
    root = source_location(source)
    pattern = _pattern(_split(source)[1])
    found = storage.find(root, root.root)
    keyed = {_key(root, file): file for file in found}
    wanted = {key: file for key, file in keyed.items() if pattern.fullmatch(key)}
    hidden = [key for key in wanted if _is_hidden(key)]
    visible = {key: file for key, file in wanted.items() if not _is_hidden(key)}
    partitions = [_partition(key, visible[key]) for key in sorted(visible) if key.endswith(_SUFFIX)]
    left_out = LeftOut(hidden=len(hidden), other_files=len(visible) - len(partitions))
    if not partitions:
        storage.check_bucket(root)
        raise SourceError(_nothing_found(source, left_out))
    return Discovery(tuple(partitions), left_out)


def is_whole_folder(source: str, found: Discovery) -> bool:
    """Whether a source's listing tells all that is in its folder: it has no wildcard and is not one file."""
    root = source_location(source).root
    return not _split(source)[1] and all(partition.path != root for partition in found.partitions)


def is_partition(key: str) -> bool:
    """Whether a name is that of a partition: a visible ``*.parquet``."""
    return key.endswith(_SUFFIX) and not _is_hidden(key)


def matches(key: str, glob: str | None) -> bool:
    """Whether a partition's key is like a glob, which knows what a source's knows; any is like None."""
    return glob is None or _pattern(glob).fullmatch(key) is not None


def check_apart(source: Location, destination: Location) -> None:
    """Refuse a destination whose outputs could overwrite the source, be taken for it, or get lost.

    Raises:
        InputError: One lies inside the other, or the destination lost its scheme.
    """
    if destination.is_local and not source.is_local and _is_bare(destination.url):
        message = (
            f"Destination {destination.url} is a folder on the machine that runs this, while the source is "
            f"not: write {source.url.partition('://')[0]}://{destination.url}, or an absolute path."
        )
        raise InputError(message)
    if source.fs.protocol != destination.fs.protocol:
        return
    one, other = (f"{real_path(place).rstrip('/')}/" for place in (source, destination))
    if one.startswith(other) or other.startswith(one):
        message = (
            f"Source {source.url} and destination {destination.url} lie inside each other: "
            "choose a destination beside the source."
        )
        raise InputError(message)


def _is_bare(url: str) -> bool:
    """Whether it may be a bucket whose scheme was forgotten."""
    return "://" not in url and not url.startswith(("/", ".", "~"))


def real_path(place: Location) -> str:
    """A folder's one true path: a link to the source is the source."""
    return os.path.realpath(place.root) if place.is_local else place.root


def _split(source: str) -> tuple[str, str]:
    """A source as its fixed folder and its wildcard part; the latter is empty when there is none."""
    wildcard = _WILDCARD.search(source)
    if wildcard is None:
        return source, ""
    folder, slash, _ = source[: wildcard.start()].rpartition("/")
    return folder or slash or ".", source[len(folder) + len(slash) :]


def _pattern(wild: str) -> re.Pattern[str]:
    """What a key must match; everything for a source without wildcards."""
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", wild or "**")
    return re.compile("".join(_GLOB.get(piece, re.escape(piece)) for piece in pieces), re.DOTALL)


_GLOB = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def _key(root: Location, file: Found) -> str:
    """The path below the root; a source that is one file is its own name."""
    if file.path == root.root:
        return file.path.rpartition("/")[2]
    return file.path[len(root.root) :].lstrip("/")


def _is_hidden(key: str) -> bool:
    return any(part.startswith(("_", ".")) for part in key.split("/"))


def _partition(key: str, file: Found) -> Partition:
    return Partition(key=key, path=file.path, size_bytes=file.size_bytes, version=file.version)


def _nothing_found(source: str, left_out: LeftOut) -> str:
    hint = f" To look in a bucket, write s3://{source}." if _is_bare(source) else ""
    return (
        f"No partition found: looked under {source} for files named *{_SUFFIX} and found none "
        f"({left_out.hidden} hidden names and {left_out.other_files} other files left out).{hint}"
    )
