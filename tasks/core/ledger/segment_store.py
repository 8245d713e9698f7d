"""Segment store: the segments of one partition in the destination; see ``segment_names`` for where they are.

All of a partition's segments are read, whatever was requested. Segments are created once, never changed, and
removed when a merged one holds the same. Whatever is interrupted, every reply is in at least one segment; in
two it does no harm.
"""

import logging
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence

import pyarrow as pa

from tasks.core.earlier_keys import EarlierKeys
from tasks.core.errors import PartitionError, PipelineError
from tasks.core.ledger import segment_format, segment_names
from tasks.core.ledger.segment_names import FOLDER, folder_of, is_of, prefix_of
from tasks.core.storage import atomic_write, stored_files
from tasks.core.storage.location import Location
from tasks.core.storage.storage_errors import translate_errors

logger = logging.getLogger(__name__)

_SEGMENTS_A_LEVEL = 16
"""A level with more is merged. More means more objects to list and to read when a partition is opened again;
fewer means that replies are read and written more often: with 16, each reply is written three times at most
and a thousand commits leave no more than 40 objects (``test_segment_store``)."""
_LAST_LEVEL = 2
"""Its segments, of some 70,000 rows, are not merged: that would take memory by the rows of the partition."""
_READ_TRIES = 5
"""Listings, when another run merges what was listed; each needs a merge within the milliseconds of a listing,
so that five of them mean that something else is wrong. Chosen, not measured."""


class SegmentStore:
    """The segments of one partition; every method but ``merge_due`` waits for the store.

    Args:
        place: The destination.
        partition_key: The partition.
        fingerprint: Of the request whose segments are added, merged and removed.
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
        self._prefix = prefix_of(fingerprint)
        self._lock = threading.Lock()
        self._levels: defaultdict[int, set[str]] = defaultdict(set)

    def tables(self, *, own: bool = False) -> Iterator[pa.Table]:
        """Every segment's table, decoded one by one; a damaged segment is named in the log and left out.

        Args:
            own: Leave out replies to other requests.

        Raises:
            StorageError: The store does not answer, so which rows are paid is not known.
            InputError: A segment's format is too new.
        """
        for name, table, is_known in self._read(self._folder):
            is_mine = is_of(name, self._prefix)
            if is_mine and is_known:
                with self._lock:
                    self._levels[segment_names.level_of(name)].add(name)
            if is_mine or not own:
                yield table
        for folder, keys in self._earlier.items():
            for _, table, _ in self._read(folder):
                yield _with_request(table, keys)

    def read(self, *, own: bool = False) -> list[pa.Table]:
        """All of ``tables`` at once."""
        return list(self.tables(own=own))

    def add(self, table: pa.Table) -> None:
        """Store a table; when this returns, it is durable.

        Raises:
            StorageError: It may or may not be stored; storing it again does no harm.
        """
        self._store(segment_format.encode([table]), 0)

    @property
    def merge_due(self) -> bool:
        """Whether a level that is merged has more segments than it should."""
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
            StorageError: Some are still there, which only takes up space.
        """
        for folder in (self._folder, *self._earlier):
            prefix = self._prefix if folder == self._folder else ""
            names = [name for name in self._names(folder) if is_of(name, prefix)]
            atomic_write.remove(self._place, [f"{folder}/{name}" for name in names])
            atomic_write.remove_empty_folder(self._place, folder)
        with self._lock:
            self._levels.clear()

    def _read(self, folder: str) -> Iterator[tuple[str, pa.Table, bool]]:
        for _ in range(_READ_TRIES):
            names = [name for name in self._names(folder) if segment_names.is_segment(name)]
            contents = self._contents(folder, names)
            # Another run may merge meanwhile: a segment that is gone is part of one that was not listed yet.
            if not any(isinstance(content, FileNotFoundError) for content in contents):
                break
        return self._tables(folder, names, contents)

    def _store(self, data: bytes, level: int) -> None:
        name = segment_names.name_of(self._prefix, level, segment_format.digest(data))
        atomic_write.write(self._place, f"{self._folder}/{name}", data)
        with self._lock:
            self._levels[level].add(name)

    def _full(self) -> tuple[int, list[str]] | None:
        with self._lock:
            for level in range(_LAST_LEVEL):
                if len(names := self._levels[level]) > _SEGMENTS_A_LEVEL:
                    return level, sorted(names)
        return None

    def _names(self, folder: str) -> list[str]:
        files = stored_files.list_files(self._place, self._place.path(folder))
        return [file.path.rpartition("/")[2] for file in files]

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
            where = self._place.url_of(f"{folder}/{name}")
            try:
                table = segment_format.decode(content, segment_names.digest_of(name), where)
                is_known = segment_format.is_known(content)
            except PartitionError as error:
                logger.warning("%s/%s is left out, its rows are requested again: %s", folder, name, error)
            else:
                yield name, table, is_known


def sweep(
    place: Location, finished: Sequence[str], fingerprint: str = "", earlier: Sequence[EarlierKeys] = ()
) -> None:
    """Remove the replies for partitions that are finished: their outputs hold the same facts.

    Args:
        place: The destination.
        finished: Keys of finished partitions.
        fingerprint: Of the request that they are finished for.
        earlier: The same request's keys in versions before 0.3.0.
    """
    prefixes = {folder_of(key): prefix_of(fingerprint) for key in finished}
    prefixes |= {folder_of(key, one.fingerprint): "" for key in finished for one in earlier}
    try:
        found = [
            file.path.removeprefix(place.path(""))
            for file in stored_files.list_files(place, place.path(FOLDER))
        ]
        parts = [(folder, name) for folder, _, name in (path.rpartition("/") for path in found)]
        gone = [one for one in parts if one[0] in prefixes and is_of(one[1], prefixes[one[0]])]
        atomic_write.remove(place, [f"{folder}/{name}" for folder, name in gone])
        for folder in {folder for folder, _ in gone}:
            atomic_write.remove_empty_folder(place, folder)
    except PipelineError as error:
        logger.warning("Ledger entries of finished partitions could not be removed: %s", error)


def _with_request(table: pa.Table, keys: EarlierKeys) -> pa.Table:
    """Replies of a folder that was one request's, with its fingerprint and limit, which they lack."""
    facts = {"fingerprint": keys.fingerprint, "max_output_tokens": keys.max_output_tokens}
    for name, value in facts.items():
        field = segment_format.SCHEMA.field(name)
        column = pa.repeat(pa.scalar(value, field.type), len(table))
        table = table.set_column(segment_format.SCHEMA.get_field_index(name), field, column)
    return table
