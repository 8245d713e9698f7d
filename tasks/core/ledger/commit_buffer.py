"""Commit buffer: the replies of a partition that are not in a segment yet, and when they are committed.

Every reply is either in the buffer, in the batch being committed, or in a segment; a failed commit puts the
batch back. So nothing leaves memory before it is durable, and nothing is stored twice in one segment.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping

import pyarrow as pa

from tasks.core.errors import describe_error
from tasks.core.ledger import segment_format
from tasks.core.ledger.commit_policy import CommitPolicy
from tasks.core.ledger.segment_store import SegmentStore
from tasks.core.model import Outcome

logger = logging.getLogger(__name__)

_NEVER_S = float("inf")
_FAILURES_AT_CLOSING = 3
"""Commits that may fail after the run ended. More gives a store that recovers another chance, each of up to
ten seconds; fewer lets a run end sooner. Chosen, not measured: replies are kept on this machine as well."""
_PATIENCE_AT_CLOSING_S = 30.0
"""No commit is begun later than this after the run ended, since a store that hangs takes minutes for each.
A scheduler that ends a run often kills it half a minute later."""


class CommitBuffer:
    """The replies of one partition that wait to be committed.

    Args:
        segments: The partition's segments.
        changed: Guards all that changes here and wakes the threads that wait for it; the ledger's.
        policy: How long and how many replies may be in memory only.
        on_committed: Called with each table that was committed, on the ledger's thread; must not raise.
    """

    def __init__(
        self,
        segments: SegmentStore,
        changed: threading.Condition,
        policy: CommitPolicy,
        on_committed: Callable[[pa.Table], object],
    ) -> None:
        self._segments = segments
        self._changed = changed
        self._policy = policy
        self._on_committed = on_committed
        self._pending: dict[bytes, Outcome] = {}
        self._batch: dict[bytes, Outcome] = {}
        # When the first reply of each came.
        self._pending_since_s = self._batch_since_s = _NEVER_S
        self._due_s = _NEVER_S
        self._is_committing = self._is_merging = False
        self._failures = 0
        self._took_s = 0.0
        self._is_closing = False
        self._give_up_s = _NEVER_S

    def append(self, key: bytes, outcome: Outcome) -> None:
        """Take a reply that was received; it is durable within a second. Never waits for the store."""
        with self._changed:
            is_new = key not in self._pending
            self._pending[key] = outcome
            self._pending_since_s = min(self._pending_since_s, time.monotonic())
            if self._failures:
                return  # it is committed with the replies that wait for the next attempt
            # Of rows with equal text each appends the same key: the later ones do not delay the first.
            if is_new and len(self._pending) in {1, self._policy.commit_rows}:
                self._due_s = self._soon_s()
                self._changed.notify_all()

    def commit_soon(self) -> None:
        """Have the last replies committed without waiting for more; returns at once."""
        with self._changed:
            if self._pending and not self._failures:
                self._due_s = 0.0
                self._changed.notify_all()

    def retry(self) -> None:
        """Commit at once what the store did not take before: it answers again."""
        with self._changed:
            self._failures = 0
            if self._pending:
                self._due_s = 0.0
                self._changed.notify_all()

    def wait_for_merge(self) -> None:
        """Wait until no segments are being merged."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_merging)

    @property
    def held(self) -> pa.Table:
        """Replies in memory only, as a table of ``segment_format.SCHEMA``."""
        with self._changed:
            entries = self._batch | self._pending
        return self._table(entries)

    @property
    def unsaved(self) -> int:
        """The number of replies in memory only."""
        return len(self._pending) + len(self._batch)

    @property
    def unsaved_s(self) -> float:
        """For how many seconds the oldest reply has been in memory only; not above 0 without any."""
        return time.monotonic() - min(self._batch_since_s, self._pending_since_s)

    @property
    def due_s(self) -> float:
        """When to commit, on the monotonic clock; never during a commit."""
        return _NEVER_S if self._is_committing else self._due_s

    @property
    def is_busy(self) -> bool:
        """Whether a closing ledger has to wait for it."""
        return self._is_committing or self._is_merging or self._due_s < _NEVER_S

    def begin_closing(self) -> None:
        """The run ends: commit now, and do not retry for ever. The lock is held by the caller."""
        self._failures, self._is_closing = 0, True
        self._give_up_s = time.monotonic() + _PATIENCE_AT_CLOSING_S
        if self._pending:
            self._due_s = 0.0

    def begin_commit(self) -> None:
        """A thread is going to call ``commit``; the lock is held by the caller."""
        self._is_committing, self._due_s = True, _NEVER_S

    def commit(self) -> None:
        """Store the buffer as one segment, then merge if there are many; on a thread of the ledger's."""
        with self._changed:
            self._batch, self._pending = self._pending, {}
            self._batch_since_s, self._pending_since_s = self._pending_since_s, _NEVER_S
        is_stored, began_s = False, time.monotonic()
        try:
            table = self._table(self._batch)
            self._segments.add(table)
            is_stored, self._took_s = True, time.monotonic() - began_s
            # Before the batch is dropped: at any time every reply is in the one or in the other.
            self._on_committed(table)
        except Exception as error:  # noqa: BLE001 - a reply that is paid for is not dropped for any reason
            logger.warning("%d replies wait to be stored: %s", len(self._batch), describe_error(error))
        finally:
            is_merged_next = self._end_commit(is_stored=is_stored)
        if is_merged_next:
            self._merge()

    def discard(self) -> None:
        """Drop what is in memory, and wait for what is being stored."""
        with self._changed:
            self._drop_pending()
            self._changed.wait_for(lambda: not (self._is_committing or self._is_merging))
            # A commit that failed meanwhile put its batch back.
            self._drop_pending()

    def _drop_pending(self) -> None:
        self._pending.clear()
        self._due_s = _NEVER_S

    def _table(self, entries: Mapping[bytes, Outcome]) -> pa.Table:
        return segment_format.table_of(entries, self._segments.fingerprint or None)

    def _soon_s(self) -> float:
        if self._is_closing or len(self._pending) >= self._policy.commit_rows:
            return 0.0
        return time.monotonic() + self._policy.wait_s(self._took_s)

    def _end_commit(self, *, is_stored: bool) -> bool:
        """Whether segments are to be merged, which the caller does next."""
        with self._changed:
            if is_stored:
                self._failures = 0
            else:
                self._failures += 1
                self._pending = self._batch | self._pending
                self._pending_since_s = self._batch_since_s
            self._batch, self._batch_since_s, self._is_committing = {}, _NEVER_S, False
            self._due_s = self._next_due_s()
            merges = is_stored and not (self._is_merging or self._is_closing) and self._segments.merge_due
            self._is_merging |= merges
            self._changed.notify_all()
            return merges

    def _next_due_s(self) -> float:
        """When to commit what is in the buffer now."""
        if not self._pending or self._gives_up:
            return _NEVER_S
        if self._failures:
            return time.monotonic() + self._policy.backoff_s(self._failures)
        # What came during the commit has set its time already.
        return min(self._due_s, self._soon_s())

    @property
    def _gives_up(self) -> bool:
        """Whether the run ends and the store takes nothing."""
        if not self._is_closing or not self._failures:
            return False
        return self._failures >= _FAILURES_AT_CLOSING or time.monotonic() > self._give_up_s

    def _merge(self) -> None:
        try:
            self._segments.merge()
        except Exception as error:  # noqa: BLE001 - recorded, and tried again after the next segment
            logger.warning("Segments of the ledger could not be merged yet: %s", describe_error(error))
        finally:
            with self._changed:
                self._is_merging = False
                self._changed.notify_all()
