"""The ledger: what has been paid for and is not published yet, durable about a second after its arrival.

Replies are appended from the event loop into memory; the ledger's own threads store them, a partition's
replies of a second in one segment (group commit). Whatever ends the run leaves through ``Ledger.__exit__``,
which stores the rest, on this machine if the store takes nothing. What a killed process loses is what arrived
within its last second. How a segment is stored and merged is ``shelf``'s to know.
"""

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

import pyarrow as pa

from tasks.core.earlier_keys import EarlierKeys
from tasks.core.errors import StorageError
from tasks.core.ledger import segment_store
from tasks.core.ledger.commit_policy import CommitPolicy
from tasks.core.ledger.local_fallback import Spill, folder_of
from tasks.core.ledger.partition_ledger import OnRows, PartitionLedger
from tasks.core.ledger.segment_store import SegmentStore
from tasks.core.storage import atomic_write, stored_files
from tasks.core.storage.location import Location

logger = logging.getLogger(__name__)

_STORING_AT_ONCE = 16
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
        pace: How long and how many replies may be in memory only.
        fingerprint: What is asked; replies to what was asked otherwise are kept.
        earlier: The same request's keys in versions before 0.3.0, whose replies are found, too.
    """

    def __init__(
        self,
        place: Location,
        on_rows: OnRows = lambda *_: None,
        pace: CommitPolicy = CommitPolicy(),
        fingerprint: str = "",
        earlier: Sequence[EarlierKeys] = (),
    ) -> None:
        self._place = place = place.with_own_connections(_CONNECTIONS)
        self._on_rows = on_rows
        self._pace = pace
        self._fingerprint = fingerprint
        self._earlier = earlier
        self._listed: frozenset[str] | None = None
        self._spill_folder = folder_of(place)
        self._changed = threading.Condition()
        self._accounts: dict[str, PartitionLedger] = {}
        self._closing = False
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
            StorageError: The store takes nothing; says of how many replies, and where they are kept. Only
                logged when another error is passing.
        """
        with self._changed:
            self._closing = True
            for account in self._accounts.values():
                account.hurry()
            self._changed.notify_all()
        # At once: a store that hangs takes a minute, and who asked the run to end may kill it before.
        spilled = [key for key, account in self._accounts.items() if self._spill(key, account)]
        self._thread.join()
        atomic_write.remove_empty_folder(self._place, segment_store.FOLDER)
        unsaved = {key: account.unsaved for key, account in self._accounts.items() if account.unsaved}
        for key in {*spilled} - {*unsaved}:
            self._spill_of(key).remove()
        if unsaved:
            message = self._told(sum(unsaved.values()), is_spilled={*unsaved} <= {*spilled})
            logger.error(message)
            if error is None:
                raise StorageError(message)

    def _spill(self, partition_key: str, account: PartitionLedger) -> bool:
        """Keep on this machine what is in memory only; returns whether there was something and it is kept."""
        held = account.held
        return bool(len(held)) and self._spill_of(partition_key).keep(held)

    def _told(self, unsaved: int, *, is_spilled: bool) -> str:
        """What happened to replies that are not in the ledger, and what to do."""
        folder = self._place.url_of(segment_store.FOLDER)
        if is_spilled:
            return (
                f"{unsaved} replies could not be stored in {folder}; they are kept in {self._spill_folder}. "
                "When the destination can be written, run again on this machine: it takes them from there."
            )
        return (
            f"{unsaved} replies could not be stored in {folder} and will be requested again: check that the "
            "destination can be written, then run again."
        )

    def open(self, partition_key: str) -> PartitionLedger:
        """Open a partition's account, with all that is known to be paid; reads its segments.

        Raises:
            StorageError: The store does not answer.
        """
        shelf_of_it = self._shelf_of(partition_key)
        with self._changed:
            account = self._accounts.get(partition_key)
            if account is None:
                account = PartitionLedger(shelf_of_it, self._changed, self._on_rows, self._pace)
                self._accounts[partition_key] = account
        self._take_spilled(partition_key)
        account.load()
        return account

    def settle(self, partition_key: str) -> None:
        """Forget a partition that is published: its output holds the same facts."""
        with self._changed:
            account = self._accounts.get(partition_key)
        if account is not None:
            account.close()
            with self._changed:
                del self._accounts[partition_key]

    def sweep(self, finished: Sequence[str]) -> None:
        """Remove what killed runs left behind of partitions that are published, by their keys."""
        segment_store.sweep(self._place, finished, self._fingerprint, self._earlier)
        if self._spill_folder.exists():
            for key in finished:
                self._spill_of(key).remove()

    def _take_spilled(self, partition_key: str) -> None:
        """Store what an earlier run on this machine could not."""
        spill = self._spill_of(partition_key)
        if tables := spill.read():
            replies = pa.concat_tables(tables)
            self._shelf_of(partition_key).add(replies)
            spill.remove()
            logger.info("%d replies an earlier run could not store are in the ledger now", len(replies))

    def _shelf_of(self, partition_key: str) -> SegmentStore:
        folders = self._folders()
        earlier = [
            one for one in self._earlier if segment_store.folder_of(partition_key, one.fingerprint) in folders
        ]
        return SegmentStore(self._place, partition_key, self._fingerprint, earlier)

    def _folders(self) -> frozenset[str]:
        """The ledger's folders when the run began; those of earlier versions are only ever removed."""
        if self._listed is None:
            names = (
                stored_files.folder_entries(self._place, self._place.path(segment_store.FOLDER))
                if self._earlier
                else ()
            )
            self._listed = frozenset(f"{segment_store.FOLDER}/{name}" for name in names)
        return self._listed

    def _spill_of(self, partition_key: str) -> Spill:
        return Spill(self._spill_folder, partition_key, self._fingerprint, self._earlier)

    def _run(self) -> None:
        """Have every account stored when it is due; the stores of several go side by side."""
        with ThreadPoolExecutor(_STORING_AT_ONCE, thread_name_prefix="ledger") as pool, self._changed:
            while True:
                now_s = time.monotonic()
                for account in self._accounts.values():
                    if account.due_s <= now_s:
                        account.started()
                        pool.submit(account.commit)
                if self._closing and not any(account.is_waiting for account in self._accounts.values()):
                    return
                next_s = min((account.due_s for account in self._accounts.values()), default=float("inf"))
                # Notified when something becomes due earlier, or ends.
                self._changed.wait(min(max(next_s - now_s, 0.0), threading.TIMEOUT_MAX))
