"""A partition's shelf: the folder of its segments in the ledger, ``_ledger/HASH/LEVEL-DIGEST.segment``.

What was asked with another prompt or model is on a shelf of its own, so that finishing one keeps the other.
Segments are created once, never changed, and removed when a merged one holds the same. Whatever is
interrupted, every outcome is in at least one segment; in two it is no harm. Names tell nothing of a
partition's key or its rows. They do not end in ``.parquet``, so that readers which search the destination
for such files find only what is published; segments that earlier versions named so are still read, merged
and removed.
"""

import hashlib
import logging
import re
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence

import pyarrow as pa

from tasks.core.errors import PartitionError, PipelineError
from tasks.core.paid import segment
from tasks.core.store import publishing, storage
from tasks.core.store.failures import failures_of
from tasks.core.store.location import Location
from tasks.core.store.storage import Found

logger = logging.getLogger(__name__)

FOLDER = "_ledger"
_SEGMENTS_A_LEVEL = 16
_LAST_LEVEL = 2
"""Its segments, of some 70,000 rows, are not merged: that would take memory by the rows of the partition."""

_NAME = re.compile(r"(\d+)-([0-9a-f]{32})\.(?:segment|parquet)")
_READ_TRIES = 5


def folder_of(partition_key: str, fingerprint: str = "") -> str:
    """Where a partition's segments are, below the destination."""
    name = f"{fingerprint} {partition_key}"
    return f"{FOLDER}/{hashlib.blake2b(name.encode(), digest_size=16).hexdigest()}"


class Shelf:
    """The segments of one partition; every method but ``merge_due`` waits for the store.

    Args:
        place: The destination.
        partition_key: Whose segments.
        fingerprint: What was asked.
    """

    def __init__(self, place: Location, partition_key: str, fingerprint: str = "") -> None:
        self._place = place
        self._folder = folder_of(partition_key, fingerprint)
        self._lock = threading.Lock()
        self._levels: defaultdict[int, set[str]] = defaultdict(set)

    def read(self) -> list[pa.Table]:
        """Every segment's table; a damaged segment counts as absent and is named in the log.

        Raises:
            StorageError: The store does not answer, so nobody knows what is paid.
        """
        for _ in range(_READ_TRIES):
            found = [file for file in self._found() if _NAME.fullmatch(_name(file))]
            contents = self._contents(found)
            # Another run may merge meanwhile: then what is gone is in a segment that was not listed yet.
            if not any(isinstance(content, FileNotFoundError) for content in contents):
                break
        with self._lock:
            for file in found:
                self._levels[_level(_name(file))].add(_name(file))
        return list(self._tables([_name(file) for file in found], contents))

    def add(self, table: pa.Table) -> None:
        """Store a table; when this returns, it is durable.

        Raises:
            StorageError: It may or may not be stored; storing it again does no harm.
        """
        self._store(segment.encode([table]), 0)

    def _store(self, data: bytes, level: int) -> None:
        name = f"{level}-{segment.digest(data)}.segment"
        publishing.create(self._place, f"{self._folder}/{name}", data)
        with self._lock:
            self._levels[level].add(name)

    @property
    def merge_due(self) -> bool:
        """A level whose segments are merged has more than it should."""
        return self._full() is not None

    def merge(self) -> None:
        """Merge every level that is full into one segment of the next; one thread at a time.

        Raises:
            StorageError: Nothing is lost; the next call tries again.
        """
        while full := self._full():
            level, names = full
            contents = self._contents([Found(self._path(name), 0, "") for name in names])
            # Another run may have merged some of them.
            there = [i for i, content in enumerate(contents) if not isinstance(content, FileNotFoundError)]
            # One after the other, since a merged segment holds thousands of rows.
            tables = self._tables([names[i] for i in there], [contents[i] for i in there])
            self._store(segment.encode(tables), level + 1)
            with self._lock:
                self._levels[level].difference_update(names)
            publishing.remove(self._place, [f"{self._folder}/{name}" for name in names])

    def remove(self) -> None:
        """Remove the folder, whoever wrote into it.

        Raises:
            StorageError: Some of it is still there, which costs nothing but room.
        """
        publishing.remove(self._place, [f"{self._folder}/{_name(file)}" for file in self._found()])
        publishing.remove_empty_folder(self._place, self._folder)
        with self._lock:
            self._levels.clear()

    def _full(self) -> tuple[int, list[str]] | None:
        with self._lock:
            for level in range(_LAST_LEVEL):
                if len(names := self._levels[level]) > _SEGMENTS_A_LEVEL:
                    return level, sorted(names)
        return None

    def _found(self) -> list[Found]:
        return storage.find(self._place, self._place.path(self._folder))

    def _path(self, name: str) -> str:
        return self._place.path(f"{self._folder}/{name}")

    def _contents(self, files: Sequence[Found]) -> list[bytes | Exception]:
        return storage.read_whole(self._place, [file.path for file in files]) if files else []

    def _tables(self, names: Sequence[str], contents: Sequence[bytes | Exception]) -> Iterator[pa.Table]:
        for name, content in zip(names, contents, strict=True):
            with failures_of(self._place.url, f"{self._folder}/{name}"):
                if isinstance(content, Exception):
                    raise content
            try:
                yield segment.decode(content, _digest(name))
            except PartitionError as error:
                logger.warning("%s/%s is left out, its rows are asked again: %s", self._folder, name, error)


def sweep(place: Location, finished: Sequence[str], fingerprint: str = "") -> None:
    """Remove the shelves of partitions that are finished: their outputs hold the same facts.

    Args:
        place: The destination.
        finished: Keys of finished partitions.
        fingerprint: What they were asked.
    """
    folders = {folder_of(key, fingerprint) for key in finished}
    try:
        found = [file.path.removeprefix(place.path("")) for file in storage.find(place, place.path(FOLDER))]
        publishing.remove(place, [path for path in found if path.rpartition("/")[0] in folders])
        for folder in {path.rpartition("/")[0] for path in found} & folders:
            publishing.remove_empty_folder(place, folder)
    except PipelineError as error:
        logger.warning("Ledger entries of finished partitions could not be removed: %s", error)


def _name(file: Found) -> str:
    return file.path.rpartition("/")[2]


def _digest(name: str) -> str:
    return name.partition("-")[2].partition(".")[0]


def _level(name: str) -> int:
    return int(name.partition("-")[0])
