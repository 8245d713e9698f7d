"""Singleflight: rows with equal keys share one request, and its reply for as long as it is remembered.

The first row of a key leads a flight. Equal rows that come while it is in flight wait on it; a waiter is a
record, not a task, so it holds neither a worker nor a slot. A reply goes to all waiters. A failed row is no
reply: one of the waiters leads the same flight next.

Belongs to the summarizer's event loop, so to one process and one run. An equal row that comes after its reply
was forgotten is requested again, unless its own partition's ledger had it when the run opened the partition.
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
"""Memory of all remembered replies together. More memory finds equal rows that lie farther apart; less lets a
small machine hold more partitions. Sorted tables need next to none of it. Chosen to hold about 85,000 replies
of 50 tokens, as many as the former bound of 100,000 replies held in 72 MB, now also when replies are long."""

_RECORD_BYTES = 544
"""Of a remembered reply without its texts; 522 were measured with tracemalloc over 50,000 replies: the key,
the entry in the dictionary, the outcome with its numbers, the model's name, the record of the raw reply."""

_BYTES_A_TOKEN = 4
"""Of a reply in English, by OpenAI's rule of thumb."""

W = TypeVar("W")


def replies_remembered(completion_tokens: float) -> int:
    """How many replies of this length are remembered at once; what a plan counts on.

    Args:
        completion_tokens: The mean length of a reply.
    """
    text_bytes = sys.getsizeof("") + _BYTES_A_TOKEN * completion_tokens
    return int(REMEMBERED_BYTES / (_RECORD_BYTES + text_bytes))


class RecentReplies:
    """Replies by row key; the one used longest ago is forgotten first.

    Args:
        max_bytes: Memory of all replies together.
    """

    def __init__(self, max_bytes: int = REMEMBERED_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._replies: OrderedDict[bytes, Outcome] = OrderedDict()

    def __len__(self) -> int:
        """How many replies."""
        return len(self._replies)

    def get(self, key: bytes) -> Outcome | None:
        """The reply of this key, which is then the last to be forgotten."""
        if (reply := self._replies.get(key)) is not None:
            self._replies.move_to_end(key)
        return reply

    def add(self, key: bytes, reply: Outcome) -> None:
        """Remember a reply; others are forgotten until all fit."""
        if (replaced := self._replies.pop(key, None)) is not None:
            self._bytes -= _size_bytes(replaced)
        self._replies[key] = reply
        self._bytes += _size_bytes(reply)
        while self._bytes > self._max_bytes:
            _, oldest = self._replies.popitem(last=False)
            self._bytes -= _size_bytes(oldest)


class Singleflight(Generic[W]):
    """Flights of requests by row key, and replies of those that ended lately.

    Args:
        recent: Remembers replies.
    """

    def __init__(self, recent: RecentReplies | None = None) -> None:
        self._recent = recent or RecentReplies()
        self._in_flight: dict[bytes, _Flight[W]] = {}
        # A set in order: flights whose leader failed or was cut off.
        self._leaderless: dict[bytes, None] = {}

    @property
    def is_leaderless(self) -> bool:
        """Whether a flight waits for ``next_leader`` to be called."""
        return bool(self._leaderless)

    def reply(self, key: bytes) -> Outcome | None:
        """The remembered reply of an equal row, as a reused outcome."""
        return self._recent.get(key)

    def join(self, row: RenderedRow, waiter: W) -> bool:
        """Lead the flight of this row's key, or wait on it when it has a leader.

        Args:
            row: The row; kept once for the leader and all waiters.
            waiter: Stands for the row if it has to wait.

        Returns:
            Whether the row leads. Then it is requested, and ``end`` is called whatever becomes of it.
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
        """The leader's request ended.

        Args:
            key: The flight's key.
            outcome: The leader's outcome; None if it was cut off.

        Returns:
            The waiters with the reply they share; none if there is no reply: then one of them leads next.
        """
        if outcome is None or not outcome.status.is_answered:
            self._leaderless[key] = None
            return ()
        # The tokens were billed for the row that was requested.
        raw = outcome.reply and replace(outcome.reply, usage=None)
        reply = replace(outcome, requests=0, lost_replies=0, reused=True, reply=raw)
        self._recent.add(key, reply)
        return zip(self._in_flight.pop(key).waiters, repeat(reply))

    def next_leader(self) -> tuple[RenderedRow, W] | None:
        """Take a row and its waiter from a flight without a leader.

        It leads when it joins before anything is awaited; if it is not wanted any more, the next one is taken
        by another call.
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
    # A set: unless the model wrote spaces around it, the summary and the raw reply are one string.
    texts = {reply.text, reply.error, *((reply.reply.text, reply.reply.refusal) if reply.reply else ())}
    return _RECORD_BYTES + sum(sys.getsizeof(text) for text in texts if text)
