"""A partition's ledger: the replies it has, and those that are received while it is open.

Replies are looked up by row key among those of the segments and of the earlier output. New ones go through
the commit buffer into segments. All of them are in the reply file, too, from which the output is written.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence

import pyarrow as pa

from tasks.core.earlier_keys import EarlierKeys
from tasks.core.errors import StorageError, describe_error
from tasks.core.ledger.commit_buffer import CommitBuffer
from tasks.core.ledger.commit_policy import CommitPolicy
from tasks.core.ledger.reply_file import ReplyFile
from tasks.core.ledger.reply_index import ReplyIndex
from tasks.core.ledger.segment_format import KEY
from tasks.core.ledger.segment_store import SegmentStore
from tasks.core.model import Outcome, Text
from tasks.core.row_key import keys_of

logger = logging.getLogger(__name__)

OnRows = Callable[[int, int], object]
"""Takes a number of rows, and how many of them failed; for progress."""
Tables = Callable[[], Iterable[pa.Table]]
"""Reads replies, tables of ``segment_format.SCHEMA``."""


class PartitionLedger:
    """The replies of one partition; opened by ``Ledger.open``.

    Args:
        segments: The partition's segments.
        new_file: Makes an empty reply file.
        changed: Guards all that changes here and wakes the threads that wait for it; the ledger's.
        on_rows: Called with a number of rows, and of failed ones among them: rows found at each look-up, and
            below 0 rows of an attempt that is repeated.
        policy: How long and how many replies may be in memory only.
    """

    def __init__(
        self,
        segments: SegmentStore,
        new_file: Callable[[], ReplyFile],
        changed: threading.Condition,
        on_rows: OnRows,
        policy: CommitPolicy,
    ) -> None:
        self._segments = segments
        self._new_file = new_file
        self._changed = changed
        self._on_rows = on_rows
        self._policy = policy
        # Rows that have an outcome since the partition was opened, and failed ones among them.
        self._rows = self._failed = 0
        self.buffer = CommitBuffer(segments, changed, policy, self._add_committed)
        self._prior: Tables = tuple
        self._file = new_file()
        self._file_is_complete = True
        self._index = ReplyIndex()
        # Keys of versions before 0.3.0 under which replies were found, and the rows' keys.
        self._names: list[tuple[pa.Array, pa.Array]] = []

    def load(self, prior: Tables = tuple) -> None:
        """Read all replies, and look up rows among them from now on.

        Args:
            prior: Reads the replies in the partition's earlier output.

        Raises:
            StorageError: The store does not answer, or the disk takes no temporary file.
        """
        if self._rows:
            self._on_rows(-self._rows, -self._failed)
            self._rows = self._failed = 0
        self._prior = prior
        self._names.clear()
        self._read_all()
        self.buffer.retry()

    def find(
        self, keys: Sequence[bytes | None], texts: Iterable[Text], earlier: Sequence[EarlierKeys]
    ) -> list[Outcome | None]:
        """Look up rows among the replies that the partition had when it was opened.

        Args:
            keys: The rows' keys; None for a row that has none.
            texts: The rows' texts.
            earlier: The request's keys in versions before 0.3.0.

        Returns:
            One entry per row, in the rows' order; None for a row without a reply.
        """
        self.match_earlier(keys, texts, earlier)
        return self._index.look_up(keys)

    def match_earlier(
        self, keys: Sequence[bytes | None], texts: Iterable[Text], earlier: Sequence[EarlierKeys]
    ) -> None:
        """Let replies that versions before 0.3.0 wrote be found under the rows' keys; see ``find``."""
        for one in earlier:
            if one.fingerprint in self._index.fingerprints:
                names = (pa.array(keys_of(texts, one.of), KEY), pa.array(keys, KEY))
                self._names.append(names)
                self._index.add_names(*names)

    def replies(self) -> ReplyIndex:
        """An index of all replies there are now, from the reply file and the commit buffer.

        Raises:
            StorageError: The reply file lacks replies since a disk was full, and the store does not answer.
        """
        if not self._file_is_complete:
            self._read_all()
        # The buffer first: a reply that is committed meanwhile is in the file then.
        index = self._index_of([self.buffer.held])
        for names in self._names:
            index.add_names(*names)
        return index

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
        self.buffer.append(key, outcome)

    def store_now(self) -> None:
        """Have the last replies committed without waiting for more; returns at once."""
        self.buffer.commit_soon()

    def check(self) -> None:
        """Refuse to request more while replies cannot be stored.

        Raises:
            StorageError: The store has taken nothing for a while.
        """
        if self.buffer.unsaved_s > self._policy.longest_unsaved_s:
            message = (
                f"{self.buffer.unsaved} replies of this partition could not be stored in the ledger yet: no "
                "more are requested until the destination can be written again."
            )
            raise StorageError(message)

    def release(self) -> None:
        """Give up the reply file and the index; replies that are not committed yet stay."""
        self._file_is_complete = False
        self._file.close()
        self._index = ReplyIndex()

    def close(self) -> None:
        """Drop what is in memory and remove the segments: the partition is published."""
        self.buffer.discard()
        self.release()
        try:
            self._segments.remove()
        except Exception as error:  # noqa: BLE001 - segments of a published partition only take up space
            logger.warning(
                "The ledger of a published partition could not be removed: %s", describe_error(error)
            )

    def _read_all(self) -> None:
        """Put all replies into a new file; raises what ``load`` raises."""
        self.release()
        # Taken first: a reply that is committed meanwhile is found here or among the segments.
        held = self.buffer.held
        self.buffer.wait_for_merge()
        self._file, self._file_is_complete = self._new_file(), True
        try:
            self._file.add(held)
            for tables in (self._segments.tables(), self._prior()):
                for table in tables:
                    self._file.add(table)
        except BaseException:
            self.release()
            raise
        self._index = self._index_of(())

    def _add_committed(self, table: pa.Table) -> None:
        if not self._file_is_complete:
            return
        try:
            self._file.add(table)
        except Exception as error:  # noqa: BLE001 - the replies are durable; the output is written from the segments
            self._file_is_complete = False
            logger.warning("Replies could not be kept in a temporary file: %s", describe_error(error))

    def _index_of(self, tables: Iterable[pa.Table]) -> ReplyIndex:
        mapped = self._file.mapped()
        index = ReplyIndex(mapped.release)
        index.extend(tables)
        index.extend(mapped.tables())
        return index
