"""The ledger: replies that are paid for and not published yet, durable about a second after their arrival.

Replies are appended from the event loop into memory; the ledger's own threads store them, a partition's
replies of a second in one segment (group commit). However the run ends, ``Ledger.__exit__`` stores the rest,
on this machine if the store takes nothing. A killed process loses what arrived within its last second. How a
segment is stored and merged is in ``segment_store``.
"""

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Self

import pyarrow as pa

from tasks.core.earlier_keys import EarlierKeys
from tasks.core.errors import StorageError
from tasks.core.ledger import segment_store
from tasks.core.ledger.commit_policy import CommitPolicy
from tasks.core.ledger.local_fallback import LocalFallback, folder_of
from tasks.core.ledger.partition_ledger import OnRows, PartitionLedger, Tables
from tasks.core.ledger.reply_file import ReplyFile
from tasks.core.ledger.segment_names import FOLDER
from tasks.core.ledger.segment_names import folder_of as segment_folder_of
from tasks.core.ledger.segment_store import SegmentStore
from tasks.core.storage import atomic_write, stored_files
from tasks.core.storage.location import Location

logger = logging.getLogger(__name__)

_COMMITS_AT_ONCE = 16
"""Threads that store segments. With more, more commits to a slow store go side by side; each is a thread
and a connection. At a tenth of a second each, 16 make 160 commits a second. Chosen on that reasoning, not
measured."""
_CONNECTIONS = 64
"""The ledger's own, so that replies are durable within a second while uploads take all other connections: one
for each thread that stores, the rest for partitions that read their segments meanwhile. More would only make
more requests of one client at once; fewer would let a commit wait for reads, each of some milliseconds."""


class Ledger:
    """The ledger of a destination, while a run works on it; a context manager.

    To be entered before the gateway, so that it is left after it: the last replies come from there.

    Args:
        place: The destination.
        on_rows: Called for progress on partitions' threads, with a number of rows that need no request; when
            a partition is opened again, with the rows counted of it before, as a number below 0.
        policy: How long and how many replies may be in memory only.
        fingerprint: Of the request; replies to other requests are kept.
        earlier: The same request's keys in versions before 0.3.0, whose replies are found, too.
    """

    def __init__(
        self,
        place: Location,
        on_rows: OnRows = lambda *_: None,
        policy: CommitPolicy = CommitPolicy(),
        fingerprint: str = "",
        earlier: Sequence[EarlierKeys] = (),
    ) -> None:
        self._place = place = place.with_own_connections(_CONNECTIONS)
        self._on_rows = on_rows
        self._policy = policy
        self._fingerprint = fingerprint
        self._earlier = earlier
        self._listed: frozenset[str] | None = None
        self._fallback_folder = folder_of(place)
        self._changed = threading.Condition()
        self._open: dict[str, PartitionLedger] = {}
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)

    def __enter__(self) -> Self:
        """Start storing."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Store what is in memory only.

        Raises:
            StorageError: The store takes nothing; says how many replies, and where they are kept. Only logged
                when another error is passing.
        """
        with self._changed:
            self._is_closing = True
            for replies in self._open.values():
                replies.buffer.begin_closing()
            self._changed.notify_all()
        # At once: a store that hangs takes a minute, and the process may be killed before.
        kept = [key for key, replies in self._open.items() if self._keep_locally(key, replies)]
        self._thread.join()
        for replies in self._open.values():
            replies.release()
        atomic_write.remove_empty_folder(self._place, FOLDER)
        unsaved = {
            key: replies.buffer.unsaved for key, replies in self._open.items() if replies.buffer.unsaved
        }
        for key in {*kept} - {*unsaved}:
            self._fallback_of(key).remove()
        if unsaved:
            message = self._unsaved_message(sum(unsaved.values()), is_kept={*unsaved} <= {*kept})
            logger.error(message)
            if error is None:
                raise StorageError(message)

    def open(self, partition_key: str, prior: Tables = tuple) -> PartitionLedger:
        """Open a partition's ledger; reads all replies there are, also when it was open before.

        Args:
            partition_key: The partition.
            prior: Reads the replies in the partition's earlier output.

        Raises:
            StorageError: The store does not answer, or the disk takes no temporary file.
        """
        segments = self._segments_of(partition_key)
        with self._changed:
            replies = self._open.get(partition_key)
            if replies is None:
                new_file = partial(ReplyFile, self._place, partition_key)
                replies = PartitionLedger(segments, new_file, self._changed, self._on_rows, self._policy)
                self._open[partition_key] = replies
        self._take_from_fallback(partition_key)
        replies.load(prior)
        return replies

    def settle(self, partition_key: str) -> None:
        """Remove the ledger of a partition that is published: its output holds the same facts."""
        with self._changed:
            replies = self._open.get(partition_key)
        if replies is not None:
            replies.close()
            with self._changed:
                del self._open[partition_key]

    def sweep(self, finished: Sequence[str]) -> None:
        """Remove the replies that killed runs left of partitions that are published, by their keys."""
        segment_store.sweep(self._place, finished, self._fingerprint, self._earlier)
        if self._fallback_folder.exists():
            for key in finished:
                self._fallback_of(key).remove()

    def _keep_locally(self, partition_key: str, replies: PartitionLedger) -> bool:
        """Keep on this machine what is in memory only; returns whether there was something and it is kept."""
        held = replies.buffer.held
        return bool(len(held)) and self._fallback_of(partition_key).keep(held)

    def _take_from_fallback(self, partition_key: str) -> None:
        """Store the replies that an earlier run on this machine could not store."""
        fallback = self._fallback_of(partition_key)
        if tables := fallback.read():
            replies = pa.concat_tables(tables)
            self._segments_of(partition_key).add(replies)
            fallback.remove()
            logger.info("%d replies an earlier run could not store are in the ledger now", len(replies))

    def _fallback_of(self, partition_key: str) -> LocalFallback:
        return LocalFallback(self._fallback_folder, partition_key, self._fingerprint, self._earlier)

    def _unsaved_message(self, unsaved: int, *, is_kept: bool) -> str:
        folder = self._place.url_of(FOLDER)
        if is_kept:
            return (
                f"{unsaved} replies could not be stored in {folder}; they are kept in "
                f"{self._fallback_folder}. When the destination can be written, run again on this machine: "
                "it takes them from there."
            )
        return (
            f"{unsaved} replies could not be stored in {folder} and will be requested again: check that the "
            "destination can be written, then run again."
        )

    def _segments_of(self, partition_key: str) -> SegmentStore:
        folders = self._folders()
        earlier = [
            one for one in self._earlier if segment_folder_of(partition_key, one.fingerprint) in folders
        ]
        return SegmentStore(self._place, partition_key, self._fingerprint, earlier)

    def _folders(self) -> frozenset[str]:
        """The ledger's folders when the run began; those of earlier versions are only ever removed."""
        if self._listed is None:
            names = (
                stored_files.folder_entries(self._place, self._place.path(FOLDER)) if self._earlier else ()
            )
            self._listed = frozenset(f"{FOLDER}/{name}" for name in names)
        return self._listed

    def _run(self) -> None:
        """Commit every partition's replies when they are due; several commits go side by side."""
        with ThreadPoolExecutor(_COMMITS_AT_ONCE, thread_name_prefix="ledger") as pool, self._changed:
            while True:
                now_s = time.monotonic()
                buffers = [replies.buffer for replies in self._open.values()]
                for buffer in buffers:
                    if buffer.due_s <= now_s:
                        buffer.begin_commit()
                        pool.submit(buffer.commit)
                if self._is_closing and not any(buffer.is_busy for buffer in buffers):
                    return
                next_s = min((buffer.due_s for buffer in buffers), default=float("inf"))
                # Notified when something becomes due earlier, or ends.
                self._changed.wait(min(max(next_s - now_s, 0.0), threading.TIMEOUT_MAX))
