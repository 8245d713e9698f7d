"""The ledger: what has been paid for and is not published yet, durable about a second after its arrival.

Replies are appended from the event loop into memory; the ledger's own threads store them, a partition's
replies of a second in one segment (group commit). Whatever ends the run leaves through ``Ledger.__exit__``,
which stores the rest. What a killed process loses is what arrived within its last second. How a segment is
stored and merged is ``shelf``'s to know.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from tasks.core import publishing, shelf
from tasks.core.account import Account, Pace
from tasks.core.errors import StorageError
from tasks.core.shelf import Shelf
from tasks.core.storage import Location

logger = logging.getLogger(__name__)

_STORING_AT_ONCE = 16


class Ledger:
    """The ledger of a destination, while a run works on it; a context manager.

    To be entered before the gateway, so that it is left after it: the last replies come from there.

    Args:
        place: The destination.
        on_reused: Called with a number of rows that need no request, for progress; on partitions' threads.
        pace: How long and how many replies may be in memory only.
    """

    def __init__(
        self,
        place: Location,
        on_reused: Callable[[int], object] = lambda _: None,
        pace: Pace = Pace(),
    ) -> None:
        self._place = place
        self._on_reused = on_reused
        self._pace = pace
        self._changed = threading.Condition()
        self._accounts: dict[str, Account] = {}
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
            StorageError: The store takes nothing; says how many replies will be paid again. Only logged when
                another error is passing.
        """
        with self._changed:
            self._closing = True
            for account in self._accounts.values():
                account.hurry()
            self._changed.notify_all()
        self._thread.join()
        publishing.remove_empty_folder(self._place, shelf.FOLDER)
        if unsaved := sum(account.unsaved for account in self._accounts.values()):
            message = (
                f"{unsaved} replies could not be stored in {self._place.url_of(shelf.FOLDER)} and will be "
                "requested again: check that the destination can be written, then run again."
            )
            logger.error(message)
            if error is None:
                raise StorageError(message)

    def open(self, partition_key: str) -> Account:
        """Open a partition's account, with all that is known to be paid; reads its segments.

        Raises:
            StorageError: The store does not answer.
        """
        with self._changed:
            account = self._accounts.get(partition_key)
            if account is None:
                account = Account(
                    Shelf(self._place, partition_key), self._changed, self._on_reused, self._pace
                )
                self._accounts[partition_key] = account
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
        shelf.sweep(self._place, finished)

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
