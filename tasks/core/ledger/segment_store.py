"""A partition's shelf: the folder of its segments, ``_ledger/HASH/FINGERPRINT-LEVEL-DIGEST.segment``.

The folder is the partition's, whatever was asked; all of it is read. The beginning of a name says for which
request a segment was written, so that finishing one request keeps the replies to others. Segments are
created once, never changed, and removed when a merged one holds the same. Whatever is interrupted, every
outcome is in at least one segment; in two it is no harm. Names hold hashes only, of the partition's key and
the request, and do not end in ``.parquet``, so that readers which search the destination for such files find
only what is published. Versions before 0.3.0 had a folder per partition and request, and 0.1.0 named its
segments ``.parquet``: they are read and removed.
"""

import hashlib
import logging
import re
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from tasks.core.earlier_keys import EarlierKeys
from tasks.core.errors import PartitionError, PipelineError
from tasks.core.ledger import segment_format
from tasks.core.storage import atomic_write, stored_files
from tasks.core.storage.location import Location
from tasks.core.storage.storage_errors import translate_errors
from tasks.core.storage.stored_files import StoredFile

logger = logging.getLogger(__name__)

FOLDER = "_ledger"
_SEGMENTS_A_LEVEL = 16
_LAST_LEVEL = 2
"""Its segments, of some 70,000 rows, are not merged: that would take memory by the rows of the partition."""

_NAME = re.compile(r"(?P<request>[0-9a-f]{16}-|)(?P<level>\d+)-(?P<digest>[0-9a-f]{32})\.(?:segment|parquet)")
_HALF_WRITTEN = re.compile(r"\.[0-9a-f]{32}")
_FINGERPRINT_DIGITS = 16
_READ_TRIES = 5


def folder_of(partition_key: str, fingerprint: str = "") -> str:
    """Where a partition's segments are, below the destination.

    Args:
        partition_key: Whose segments.
        fingerprint: Empty; versions before 0.3.0 had a folder for each.
    """
    name = f"{fingerprint} {partition_key}"
    return f"{FOLDER}/{hashlib.blake2b(name.encode(), digest_size=16).hexdigest()}"


def is_begun(
    partition_key: str, fingerprint: str, earlier: Sequence[EarlierKeys], begun: frozenset[str]
) -> bool:
    """Whether the ledger has replies to a request for a partition.

    Args:
        partition_key: Which partition.
        fingerprint: Of the request.
        earlier: Its fingerprints in versions before 0.3.0.
        begun: As ``begun_in`` returned it.
    """
    mine = f"{folder_of(partition_key)}/{_prefix(fingerprint)}"
    return mine in begun or any(f"{folder_of(partition_key, one.fingerprint)}/" in begun for one in earlier)


def begun_in(keys: Iterable[str]) -> frozenset[str]:
    """Folder and request of every segment among some keys of a destination."""
    found = (key.rpartition("/") for key in keys if key.startswith(f"{FOLDER}/"))
    named = ((folder, _NAME.fullmatch(name)) for folder, _, name in found)
    return frozenset(f"{folder}/{name['request']}" for folder, name in named if name)


class SegmentStore:
    """The segments of one partition; every method but ``merge_due`` waits for the store.

    Args:
        place: The destination.
        partition_key: Whose segments.
        fingerprint: What is asked: of the segments that are added, merged and removed.
        earlier: The same request's keys in versions before 0.3.0; their folders are read and removed.
    """

    def __init__(
        self,
        place: Location,
        partition_key: str,
        fingerprint: str = "",
        earlier: Sequence[EarlierKeys] = (),
    ) -> None:
        self.fingerprint = fingerprint
        self._place = place
        self._folder = folder_of(partition_key)
        self._earlier = {folder_of(partition_key, one.fingerprint): one for one in earlier}
        self._prefix = _prefix(fingerprint)
        self._lock = threading.Lock()
        self._levels: defaultdict[int, set[str]] = defaultdict(set)

    def read(self, *, own: bool = False) -> list[pa.Table]:
        """Every segment's table; a damaged segment counts as absent and is named in the log.

        Args:
            own: Leave out what answers other requests.

        Raises:
            StorageError: The store does not answer, so what is paid is not known.
            InputError: A segment's format is too new.
        """
        found = self._read(self._folder)
        mine = {name: read for name, read in found.items() if _is_of(name, self._prefix)}
        with self._lock:
            for name, (_, is_known) in mine.items():
                if is_known:
                    self._levels[_level(name)].add(name)
        tables = [table for table, _ in (mine if own else found).values()]
        for folder, keys in self._earlier.items():
            tables += [_as_asked(table, keys) for table, _ in self._read(folder).values()]
        return tables

    def _read(self, folder: str) -> dict[str, tuple[pa.Table, bool]]:
        """By name, each segment's table and whether all its columns are known."""
        for _ in range(_READ_TRIES):
            names = [name for name in self._names(folder) if _NAME.fullmatch(name)]
            contents = self._contents(folder, names)
            # Another run may merge meanwhile: then what is gone is in a segment that was not listed yet.
            if not any(isinstance(content, FileNotFoundError) for content in contents):
                break
        return {name: (table, known) for name, table, known in self._tables(folder, names, contents)}

    def add(self, table: pa.Table) -> None:
        """Store a table; when this returns, it is durable.

        Raises:
            StorageError: It may or may not be stored; storing it again does no harm.
        """
        self._store(segment_format.encode([table]), 0)

    def _store(self, data: bytes, level: int) -> None:
        name = f"{self._prefix}{level}-{segment_format.digest(data)}.segment"
        atomic_write.write(self._place, f"{self._folder}/{name}", data)
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
            contents = self._contents(self._folder, names)
            # Another run may have merged some of them.
            there = [i for i, content in enumerate(contents) if not isinstance(content, FileNotFoundError)]
            # One after the other, since a merged segment holds thousands of rows.
            found = self._tables(self._folder, [names[i] for i in there], [contents[i] for i in there])
            self._store(segment_format.encode(table for _, table, _ in found), level + 1)
            with self._lock:
                self._levels[level].difference_update(names)
            atomic_write.remove(self._place, [f"{self._folder}/{name}" for name in names])

    def remove(self) -> None:
        """Remove all replies to this request; those to other requests stay.

        Raises:
            StorageError: Some of it is still there, which costs nothing but room.
        """
        for folder in (self._folder, *self._earlier):
            prefix = self._prefix if folder == self._folder else ""
            names = [name for name in self._names(folder) if _is_of(name, prefix)]
            atomic_write.remove(self._place, [f"{folder}/{name}" for name in names])
            atomic_write.remove_empty_folder(self._place, folder)
        with self._lock:
            self._levels.clear()

    def _full(self) -> tuple[int, list[str]] | None:
        with self._lock:
            for level in range(_LAST_LEVEL):
                if len(names := self._levels[level]) > _SEGMENTS_A_LEVEL:
                    return level, sorted(names)
        return None

    def _names(self, folder: str) -> list[str]:
        return [_name(file) for file in stored_files.list_files(self._place, self._place.path(folder))]

    def _contents(self, folder: str, names: Sequence[str]) -> list[bytes | Exception]:
        paths = [self._place.path(f"{folder}/{name}") for name in names]
        return stored_files.read_files(self._place, paths) if paths else []

    def _tables(
        self, folder: str, names: Sequence[str], contents: Sequence[bytes | Exception]
    ) -> Iterator[tuple[str, pa.Table, bool]]:
        """Name and table of each segment, and whether all its columns are known."""
        for name, content in zip(names, contents, strict=True):
            with translate_errors(self._place.url, f"{folder}/{name}"):
                if isinstance(content, Exception):
                    raise content
            try:
                table = segment_format.decode(content, _digest(name), self._place.url_of(f"{folder}/{name}"))
                yield name, table, segment_format.is_known(content)
            except PartitionError as error:
                logger.warning("%s/%s is left out, its rows are asked again: %s", folder, name, error)


def sweep(
    place: Location, finished: Sequence[str], fingerprint: str = "", earlier: Sequence[EarlierKeys] = ()
) -> None:
    """Remove the replies for partitions that are finished: their outputs hold the same facts.

    Args:
        place: The destination.
        finished: Keys of finished partitions.
        fingerprint: What they were asked.
        earlier: The same request's keys in versions before 0.3.0.
    """
    prefixes = {folder_of(key): _prefix(fingerprint) for key in finished}
    prefixes |= {folder_of(key, one.fingerprint): "" for key in finished for one in earlier}
    try:
        found = [
            file.path.removeprefix(place.path(""))
            for file in stored_files.list_files(place, place.path(FOLDER))
        ]
        parts = [(folder, name) for folder, _, name in (path.rpartition("/") for path in found)]
        gone = [one for one in parts if one[0] in prefixes and _is_of(one[1], prefixes[one[0]])]
        atomic_write.remove(place, [f"{folder}/{name}" for folder, name in gone])
        for folder in {folder for folder, _ in gone}:
            atomic_write.remove_empty_folder(place, folder)
    except PipelineError as error:
        logger.warning("Ledger entries of finished partitions could not be removed: %s", error)


def _as_asked(table: pa.Table, keys: EarlierKeys) -> pa.Table:
    """Replies of a folder that was one request's: they say neither its fingerprint nor its limit."""
    facts = {"fingerprint": keys.fingerprint, "max_output_tokens": keys.max_output_tokens}
    for name, value in facts.items():
        field = segment_format.SCHEMA.field(name)
        column = pa.repeat(pa.scalar(value, field.type), len(table))
        table = table.set_column(segment_format.SCHEMA.get_field_index(name), field, column)
    return table


def _prefix(fingerprint: str) -> str:
    return f"{fingerprint[:_FINGERPRINT_DIGITS]}-" if fingerprint else ""


def _is_of(name: str, prefix: str) -> bool:
    """Whether a file is a segment for one request, or what a kill left of any."""
    named = _NAME.fullmatch(name)
    return named["request"] == prefix if named else _HALF_WRITTEN.fullmatch(name) is not None


def _name(file: StoredFile) -> str:
    return file.path.rpartition("/")[2]


def _digest(name: str) -> str:
    return name.rpartition("-")[2].partition(".")[0]


def _level(name: str) -> int:
    return int(name.split("-")[-2])
