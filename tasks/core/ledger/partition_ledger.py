"""A partition's account: what is known to be paid for, and what was answered and is not stored yet.

Every reply is either in the buffer, in the batch being stored, or in a segment; a failed store puts the batch
back. So nothing leaves memory before it is durable, and nothing is stored twice in one segment.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import pyarrow as pa

from tasks.core.earlier_keys import EarlierKeys
from tasks.core.errors import StorageError, describe_error
from tasks.core.ledger import segment_format
from tasks.core.ledger.commit_policy import CommitPolicy
from tasks.core.ledger.reply_index import ReplyIndex, better_of
from tasks.core.ledger.segment_store import SegmentStore
from tasks.core.model import Outcome, Text
from tasks.core.row_key import keys_of

logger = logging.getLogger(__name__)

OnRows = Callable[[int, int], object]
"""Takes a number of rows, and how many of them failed; for progress."""

_NEVER_S = float("inf")
_FAILURES_BORNE_AT_CLOSING = 3
_PATIENCE_AT_CLOSING_S = 30.0


class PartitionLedger:
    """What has been paid for in one partition; opened by ``Ledger.open``.

    Args:
        shelf: Where its segments are.
        changed: Guards all that changes here, and wakes who waits for it; the ledger's.
        on_rows: Called with a number of rows, and of failed ones among them: rows found at each look-up, and
            below 0 rows of an attempt that is repeated.
        pace: How much may be in memory only.
    """

    def __init__(
        self, shelf: SegmentStore, changed: threading.Condition, on_rows: OnRows, pace: CommitPolicy
    ) -> None:
        self._shelf = shelf
        self._changed = changed
        self._on_rows = on_rows
        # Rows that have an outcome since the partition was opened, and failed ones among them.
        self._rows = self._failed = 0
        self._pace = pace
        self._known = ReplyIndex()
        self._pending: dict[bytes, Outcome] = {}
        self._batch: dict[bytes, Outcome] = {}
        # When the first reply of each came.
        self._pending_since_s = self._batch_since_s = _NEVER_S
        self._due_s = _NEVER_S
        self._storing = self._merging = False
        self._failures = 0
        self._took_s = 0.0
        self._closing = False
        self._give_up_s = _NEVER_S

    def load(self) -> None:
        """Read all that is paid for.

        Raises:
            StorageError: The store does not answer.
        """
        if self._rows:
            self._on_rows(-self._rows, -self._failed)
            self._rows = self._failed = 0
        # In memory only, after an earlier try of the partition in this process.
        held = self.held
        with self._changed:
            self._changed.wait_for(lambda: not self._merging)
        self._known = ReplyIndex()
        self.add_known(held, *self._shelf.read())
        with self._changed:
            # The store answers again, so what it did not take is tried at once.
            self._failures = 0
            if self._pending:
                self._due_s = 0.0
                self._changed.notify_all()

    def add_known(self, *tables: pa.Table) -> None:
        """Let look-ups find more, tables of ``segment.SCHEMA``; they are not stored."""
        self._known.add(*tables)

    def look_up(self, keys: Sequence[bytes | None]) -> list[Outcome | None]:
        """What is known of rows.

        Args:
            keys: The rows' keys; None for a row that has none.

        Returns:
            One entry per row, in the rows' order; None for a row that is not paid for.
        """
        known = self._known.look_up(keys)
        self.count_reused(len(known) - known.count(None))
        return known

    def find(
        self, keys: Sequence[bytes | None], texts: Iterable[Text], earlier: Sequence[EarlierKeys]
    ) -> list[Outcome | None]:
        """The same, with what versions before 0.3.0 wrote; nothing is counted as reused.

        Args:
            keys: The rows' keys.
            texts: The rows' texts.
            earlier: The request's keys in versions before 0.3.0.
        """
        known = self._known.look_up(keys)
        for one in earlier:
            if one.fingerprint in self._known.fingerprints:
                old = self._known.look_up(keys_of(texts, one.of))
                known = [better_of(*both) for both in zip(known, old, strict=True)]
        return known

    def count_reused(self, rows: int) -> None:
        """Count rows that need no request, for progress."""
        self.count(rows)
        self._on_rows(rows, 0)

    def count(self, rows: int, failed: int = 0) -> None:
        """Note how many rows have an outcome, so that progress counts them once if all is tried again."""
        with self._changed:
            self._rows += rows
            self._failed += failed

    def append(self, key: bytes, outcome: Outcome) -> None:
        """Take a reply that was received; it is durable within a second. Never waits for the store."""
        with self._changed:
            is_new = key not in self._pending
            self._pending[key] = outcome
            self._pending_since_s = min(self._pending_since_s, time.monotonic())
            if self._failures:
                return  # it goes with what waits for the store already
            # Of rows with equal text each appends the same key: the later ones do not delay the first.
            if is_new and len(self._pending) in {1, self._pace.commit_rows}:
                self._due_s = self._soon_s()
                self._changed.notify_all()

    def store_now(self) -> None:
        """Store the last replies without waiting for more; returns at once."""
        with self._changed:
            if self._pending and not self._failures:
                self._due_s = 0.0
                self._changed.notify_all()

    def check(self) -> None:
        """Refuse to go on paying for what cannot be kept.

        Raises:
            StorageError: The store has taken nothing for a while.
        """
        oldest_s = min(self._batch_since_s, self._pending_since_s)
        if time.monotonic() - oldest_s > self._pace.longest_unsaved_s:
            message = (
                f"{self.unsaved} replies of this partition could not be stored in the ledger yet: no more "
                "are requested until the destination can be written again."
            )
            raise StorageError(message)

    @property
    def held(self) -> pa.Table:
        """Replies in memory only, as a table of ``segment.SCHEMA``."""
        with self._changed:
            return self._table(self._batch | self._pending)

    @property
    def unsaved(self) -> int:
        """Replies in memory only."""
        return len(self._pending) + len(self._batch)

    @property
    def due_s(self) -> float:
        """When to store, on the monotonic clock; never, while that goes on already."""
        return _NEVER_S if self._storing else self._due_s

    @property
    def is_waiting(self) -> bool:
        """There is work that a closing ledger has to wait for."""
        return self._storing or self._merging or self._due_s < _NEVER_S

    def hurry(self) -> None:
        """The run ends: store now, and do not try for ever. The lock is held by the caller."""
        self._failures, self._closing = 0, True
        # A store that hangs costs minutes a try.
        self._give_up_s = time.monotonic() + _PATIENCE_AT_CLOSING_S
        if self._pending:
            self._due_s = 0.0

    def started(self) -> None:
        """A thread is going to call ``commit``; the lock is held by the caller."""
        self._storing, self._due_s = True, _NEVER_S

    def commit(self) -> None:
        """Store the buffer as one segment, then merge if there are many; on a thread of the ledger's."""
        with self._changed:
            self._batch, self._pending = self._pending, {}
            self._batch_since_s, self._pending_since_s = self._pending_since_s, _NEVER_S
        stored, began_s = False, time.monotonic()
        try:
            self._shelf.add(self._table(self._batch))
            stored, self._took_s = True, time.monotonic() - began_s
        except Exception as error:  # noqa: BLE001 - a reply that is paid for is not dropped for any reason
            logger.warning("%d replies wait to be stored: %s", len(self._batch), describe_error(error))
        finally:
            merges = self._ended(stored=stored)
        if merges:
            self._merge()

    def close(self) -> None:
        """Drop what is in memory and remove the segments: the partition is published."""
        with self._changed:
            self._pending.clear()
            self._due_s = _NEVER_S
            self._changed.wait_for(lambda: not (self._storing or self._merging))
            self._pending.clear()
            self._due_s = _NEVER_S
        self._known = ReplyIndex()
        try:
            self._shelf.remove()
        except Exception as error:  # noqa: BLE001 - what stays of a published partition costs nothing but room
            logger.warning(
                "The ledger of a published partition could not be removed: %s", describe_error(error)
            )

    def _table(self, entries: Mapping[bytes, Outcome]) -> pa.Table:
        return segment_format.table_of(entries, self._shelf.fingerprint or None)

    def _soon_s(self) -> float:
        if self._closing or len(self._pending) >= self._pace.commit_rows:
            return 0.0
        return time.monotonic() + self._pace.wait_s(self._took_s)

    def _ended(self, *, stored: bool) -> bool:
        """Whether segments are to be merged, which the caller does next."""
        with self._changed:
            if stored:
                self._failures = 0
            else:
                self._failures += 1
                self._pending = self._batch | self._pending
                self._pending_since_s = self._batch_since_s
            self._batch, self._batch_since_s, self._storing = {}, _NEVER_S, False
            self._due_s = self._next_due_s()
            merges = stored and not (self._merging or self._closing) and self._shelf.merge_due
            self._merging |= merges
            self._changed.notify_all()
            return merges

    def _next_due_s(self) -> float:
        """When to store what is in the buffer now."""
        if not self._pending or self._gives_up:
            return _NEVER_S
        if self._failures:
            return time.monotonic() + self._pace.backoff_s(self._failures)
        # What came while the batch was stored told its time when it came.
        return min(self._due_s, self._soon_s())

    @property
    def _gives_up(self) -> bool:
        """The run ends and the store takes nothing."""
        if not self._closing or not self._failures:
            return False
        return self._failures >= _FAILURES_BORNE_AT_CLOSING or time.monotonic() > self._give_up_s

    def _merge(self) -> None:
        try:
            self._shelf.merge()
        except Exception as error:  # noqa: BLE001 - recorded, and tried again after the next segment
            logger.warning("Segments of the ledger could not be merged yet: %s", describe_error(error))
        finally:
            with self._changed:
                self._merging = False
                self._changed.notify_all()
