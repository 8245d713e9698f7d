"""Discovery: lists the partitions of a source, in the order of their keys.

A source is a prefix, a glob (``*``, ``**`` and ``?``; brackets are ordinary characters, since keys contain
them) or one file. Discovery reads listings only, no files: the preflight checks their footers. The rules for
names are in ``partition_names``.
"""

import os
import re
from collections.abc import Sequence

from tasks.core.errors import InputError, SourceError
from tasks.core.escaping import printable
from tasks.core.model import Discovery, LeftOut, Partition
from tasks.core.options import NO_SUFFIX, RunOptions
from tasks.core.storage import left_out_files, stored_files, table_formats
from tasks.core.storage.location import Location, locate
from tasks.core.storage.partition_names import NameFilter, glob_pattern, names_files
from tasks.core.storage.stored_files import StoredFile

_WILDCARD = re.compile(r"[*?]")


def source_location(source: str) -> Location:
    """The folder that partition keys are relative to; for a glob, the last one before the first wildcard.

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


def discover(source: str, run: RunOptions = RunOptions()) -> Discovery:
    """List the partitions of a source.

    Args:
        source: The source as the user wrote it.
        run: The suffixes of partitions, and whether a table's folder is accepted.

    Raises:
        TableFolderError: The source is a table, is part of one, or contains one.
        SourceError: No partition was found; the message names the folder and the pattern.
        StorageError: The store does not answer.
    """
    root, wild = source_location(source), _split(source)[1]
    # Two files may have the same key; their order has to be the same in every run.
    found = sorted(
        ((_key(root, file), file) for file in stored_files.list_files(root, root.root)), key=_order
    )
    keys = [key for key, _ in found]
    is_one_file = not wild and len(found) == 1 and found[0][1].path == root.root
    inside = table_formats.find_tables(root, keys) if found else ()
    if inside and not (is_one_file or run.allow_table_folder):
        raise table_formats.table_error(inside)
    names = NameFilter(keys[0] if is_one_file else wild, run.suffix)
    reasons = [names.skip_reason(key) for key in keys]
    partitions = [_partition(*one) for one, reason in zip(found, reasons, strict=True) if reason is None]
    left_out = left_out_files.count(keys, reasons)
    if not partitions:
        stored_files.check_bucket_exists(root)
        raise SourceError(_nothing_found(source, run, left_out))
    return Discovery(tuple(partitions), left_out, inside)


def is_whole_folder(source: str, found: Discovery) -> bool:
    """Whether a source is a whole folder: it has no wildcard and is not a single file."""
    root = source_location(source).root
    return not _split(source)[1] and all(partition.path != root for partition in found.partitions)


def matches(key: str, glob: str | None) -> bool:
    """Whether a partition's key matches a glob with the wildcards of a source; None matches every key."""
    return glob is None or glob_pattern(glob).fullmatch(key) is not None


def check_distinct(partitions: Sequence[Partition], destination: Location) -> None:
    """Reject partitions whose outputs would overwrite each other.

    Raises:
        InputError: Two keys differ only in empty parts (``a//b``), which disks and many object stores drop;
            or, on a disk, one key is also a folder of another key.
    """
    taken: dict[str, Partition] = {}
    for partition in partitions:
        key = "/".join(part for part in partition.key.split("/") if part)
        if (other := taken.setdefault(key, partition)) is not partition:
            raise InputError(_same_output(other, partition, destination))
    if destination.is_local:
        for key, partition in taken.items():
            folders = (key[:end] for end, character in enumerate(key) if character == "/")
            for folder in taken.keys() & set(folders):
                raise InputError(_same_output(taken[folder], partition, destination))


def _same_output(one: Partition, other: Partition, destination: Location) -> str:
    return (
        f"{printable(one.path)} and {printable(other.path)} cannot both have an output in {destination.url}: "
        f"both outputs would be written to {printable(one.key)}. Rename one, or summarize them from two "
        "sources to two destinations; nothing was spent."
    )


def check_apart(source: Location, destination: Location) -> None:
    """Reject a destination whose outputs could overwrite the source, be mistaken for it, or be lost.

    Raises:
        InputError: One is inside the other, or the destination seems to lack its scheme.
    """
    if destination.is_local and not source.is_local and _is_bare(destination.url):
        message = (
            f"Destination {destination.url} is a local folder, but the source is not local: "
            f"write {source.url.partition('://')[0]}://{destination.url}, or an absolute path."
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
    """Whether it may be a bucket without its scheme."""
    return "://" not in url and not url.startswith(("/", ".", "~"))


def real_path(place: Location) -> str:
    """A folder's path with symbolic links resolved, so that a link to the source is recognized."""
    return os.path.realpath(place.root) if place.is_local else place.root


def _split(source: str) -> tuple[str, str]:
    """Split a source into its fixed folder and its wildcard part, which may be empty."""
    wildcard = _WILDCARD.search(source)
    if wildcard is None:
        return source, ""
    folder, slash, _ = source[: wildcard.start()].rpartition("/")
    return folder or slash or ".", source[len(folder) + len(slash) :]


def _key(root: Location, file: StoredFile) -> str:
    """The path below the root; the file's name if the source is one file."""
    if file.path == root.root:
        return file.path.rpartition("/")[2]
    return file.path[len(root.root) :].lstrip("/")


def _order(found: tuple[str, StoredFile]) -> tuple[str, str]:
    return found[0], found[1].path


def _partition(key: str, file: StoredFile) -> Partition:
    return Partition(key=key, path=file.path, size_bytes=file.size_bytes, version=file.version)


def _nothing_found(source: str, run: RunOptions, left_out: LeftOut) -> str:
    hint = f" For a bucket, write s3://{source}." if _is_bare(source) else ""
    ends = ("without a dot" if suffix == NO_SUFFIX else f"*{suffix}" for suffix in run.suffix)
    wanted = "that match it" if names_files(_split(source)[1]) else f"named {' or '.join(ends)}"
    return (
        f"No partition found: {source} has no files {wanted} "
        f"(left out: {left_out_files.describe_left_out(left_out)}).{hint}"
    )
