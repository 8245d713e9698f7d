"""Singleflight: rows with equal keys share one request and its reply.

The first row of a key leads a flight and is requested. Equal rows that come while it is in flight wait for
it. A waiter is an entry in a queue, not a task, so it holds neither a worker nor a slot. All waiters get the
reply; if the request fails, one of them leads the flight next.

Recent replies are kept for rows that come later. After its reply was evicted, an equal row is requested
again, unless the ledger had it when its partition was opened. Belongs to the summarizer's event loop, so to
one process and one run.
"""

import sys
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import Generic, TypeVar

from tasks.core.model import Outcome
from tasks.core.prompt import RenderedRow

REMEMBERED_BYTES = 64 * 2**20
"""Memory of all recent replies together. More finds equal rows that are farther apart; less leaves memory to
other partitions. A sorted table needs almost none. Holds about 85,000 replies of 50 tokens; an earlier bound
of 100,000 replies used 72 MB with these, and more with longer ones."""

_RECORD_BYTES = 544
"""Memory of a recent reply without its texts: key, dictionary entry, outcome, raw reply. Less would exceed
the bound; tracemalloc measured 522 over 50,000 replies."""

_BYTES_PER_TOKEN = 4
"""Size of a reply in English, by OpenAI's rule of thumb; only a plan's estimate uses it."""

W = TypeVar("W")


def replies_remembered(completion_tokens: float) -> int:
    """How many recent replies of this length are kept at once, for a plan's estimate.

    Args:
        completion_tokens: The mean length of a reply.
    """
    text_bytes = sys.getsizeof("") + _BYTES_PER_TOKEN * completion_tokens
    return int(REMEMBERED_BYTES / (_RECORD_BYTES + text_bytes))


class RecentReplies:
    """Least recently used cache of replies by row key, bounded in bytes.

    Args:
        max_bytes: Memory of all replies together.
    """

    def __init__(self, max_bytes: int = REMEMBERED_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._replies: OrderedDict[bytes, Outcome] = OrderedDict()

    def __len__(self) -> int:
        """Number of replies."""
        return len(self._replies)

    def get(self, key: bytes) -> Outcome | None:
        """The reply of this key, or None; the reply then counts as used last."""
        if (reply := self._replies.get(key)) is not None:
            self._replies.move_to_end(key)
        return reply

    def add(self, key: bytes, reply: Outcome) -> None:
        """Add a reply, and evict others until all fit."""
        if (replaced := self._replies.pop(key, None)) is not None:
            self._bytes -= _size_bytes(replaced)
        self._replies[key] = reply
        self._bytes += _size_bytes(reply)
        while self._bytes > self._max_bytes:
            _, oldest = self._replies.popitem(last=False)
            self._bytes -= _size_bytes(oldest)


class Singleflight(Generic[W]):
    """Flights by row key, and the replies of recent ones.

    Args:
        recent: The cache of replies.
    """

    def __init__(self, recent: RecentReplies | None = None) -> None:
        self._recent = recent or RecentReplies()
        self._in_flight: dict[bytes, _Flight[W]] = {}
        # An ordered set of the flights whose leader failed or was cancelled.
        self._leaderless: dict[bytes, None] = {}

    @property
    def has_leaderless(self) -> bool:
        """Whether a flight needs a new leader."""
        return bool(self._leaderless)

    def reply(self, key: bytes) -> Outcome | None:
        """The recent reply of an equal row, as a reused outcome."""
        return self._recent.get(key)

    def join(self, row: RenderedRow, waiter: W) -> bool:
        """Lead the flight of this row's key, or wait for it if it has a leader.

        Args:
            row: The row; stored once for the leader and all waiters.
            waiter: Represents the row if it has to wait.

        Returns:
            Whether the row leads. If so, the caller requests it and then calls ``end``, also after a failure.
        """
        if (flight := self._in_flight.get(row.key)) is None:
            self._in_flight[row.key] = _Flight(row)
        elif row.key in self._leaderless:
            del self._leaderless[row.key]
        else:
            flight.waiters.append(waiter)
            return False
        return True

    def end(self, key: bytes, outcome: Outcome | None) -> Iterable[tuple[W, Outcome]]:
        """End the leader's request.

        Args:
            key: The flight's key.
            outcome: The leader's outcome; None if it was cancelled.

        Returns:
            The waiters, each with the shared reply. Empty if there is no reply; then one of them leads next.
        """
        if outcome is None or not outcome.status.is_answered:
            self._leaderless[key] = None
            return ()
        # Usage counts for the requested row only.
        raw = outcome.reply and replace(outcome.reply, usage=None)
        reply = replace(outcome, requests=0, lost_replies=0, reused=True, reply=raw)
        self._recent.add(key, reply)
        return zip(self._in_flight.pop(key).waiters, repeat(reply))

    def next_leader(self) -> tuple[RenderedRow, W] | None:
        """Take a row and its waiter from a flight without a leader; None if there is none.

        The caller joins it again at once, without an ``await`` between, and it leads. If the row is no longer
        needed, the caller takes the next one instead.
        """
        while self._leaderless:
            key = next(iter(self._leaderless))
            flight = self._in_flight[key]
            if flight.waiters:
                return flight.row, flight.waiters.popleft()
            del self._leaderless[key], self._in_flight[key]
        return None


@dataclass(slots=True)
class _Flight(Generic[W]):
    row: RenderedRow
    waiters: deque[W] = field(default_factory=deque)


def _size_bytes(reply: Outcome) -> int:
    # A set, since the summary and the raw reply are usually the same string object.
    texts = {reply.text, reply.error, *((reply.reply.text, reply.reply.refusal) if reply.reply else ())}
    return _RECORD_BYTES + sum(sys.getsizeof(text) for text in texts if text)
