"""Requests the rows of a partition that its ledger lacks, and appends their replies to the ledger at once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from tasks.core.earlier_keys import EarlierKeys
from tasks.core.errors import InterruptedRunError, PipelineError
from tasks.core.ledger.partition_ledger import PartitionLedger
from tasks.core.ledger.reply_index import is_final
from tasks.core.model import Outcome, Status
from tasks.core.rows.batch import OnRow, Row
from tasks.core.rows.row_source import Picked, RowSlice

Waiting = Callable[[], Sequence[Outcome]]
"""Waits for rows that were handed in: one outcome per row, in the rows' order."""


class Rows(Protocol):
    """Rows that are pulled one by one, with their number."""

    def __iter__(self) -> Iterator[Row]:
        """Each row."""
        ...

    def __len__(self) -> int:
        """How many rows."""
        ...


class RowService(Protocol):
    """Summarizes rows that are handed in; the gateway is one."""

    def begin(self, rows: Rows, on_row: OnRow) -> Waiting:
        """Take rows and return at once; ``on_row`` is called with each row's place and its outcome."""
        ...


class Requested:
    """Rows that were handed in.

    Args:
        known: Each row's outcome in the ledger, None for a row without one.
        pulled: The rows that are requested.
        waiting: Waits for the outcomes of these.
        max_output_tokens: The limit they are requested under.
    """

    def __init__(
        self, known: Sequence[Outcome | None], pulled: "_UntilEnded", waiting: Waiting, max_output_tokens: int
    ) -> None:
        self._known = known
        self._max_output_tokens = max_output_tokens
        self._pulled = pulled
        self._waiting = waiting

    def outcomes(self) -> list[Outcome]:
        """Wait for all: one outcome per row, in the rows' order.

        Raises:
            StopRunError: No row would be served; replies received before are kept.
            StorageError: Replies cannot be kept, so no further row is requested.
        """
        requested = iter(self._waiting())
        return [
            known
            if known is not None and is_final(known, self._max_output_tokens)
            else _better(known, next(requested))
            for known in self._known
        ]

    def give_up(self) -> None:
        """Request no further row."""
        self._pulled.end()

    def wait(self) -> None:
        """Wait for the rows in flight, whatever their outcome."""
        with suppress(PipelineError):
            self._waiting()


class Requester:
    """Requests each row of a partition at most once.

    Args:
        service: Summarizes rows.
        ledger: The partition's replies: those that are paid for, and those that come now.
        earlier: Keys that rows may have in ledgers of versions before 0.3.0.
        max_output_tokens: The limit of the requests.
    """

    def __init__(
        self,
        service: RowService,
        ledger: PartitionLedger,
        earlier: Sequence[EarlierKeys],
        max_output_tokens: int,
    ) -> None:
        self._service = service
        self._ledger = ledger
        self._earlier = earlier
        self._max_output_tokens = max_output_tokens

    def request(self, rows: RowSlice) -> Requested:
        """Hand in rows; those without a final reply in the ledger are requested from now on."""
        limit = self._max_output_tokens
        known = self._ledger.find(rows.keys, rows.texts, self._earlier)
        is_missing = [outcome is None or not is_final(outcome, limit) for outcome in known]
        missing = rows.pick(is_missing)
        self._ledger.count_reused(len(known) - len(missing))
        pulled = _UntilEnded(missing, self._ledger)
        return Requested(known, pulled, self._begin(pulled, missing.keys) if len(missing) else list, limit)

    def store_now(self) -> None:
        """Store the last replies without waiting for more; returns at once."""
        self._ledger.store_now()

    def _begin(self, rows: "_UntilEnded", keys: Sequence[bytes | None]) -> Waiting:
        def keep(place: int, outcome: Outcome) -> None:
            self._ledger.count(1, failed=outcome.status is Status.FAILED)
            key = keys[place]
            if key is not None and outcome.status.is_answered:
                self._ledger.append(key, outcome)
            else:
                # Equal rows that wait for this one would be requested next.
                rows.check()

        return self._service.begin(rows, keep)


def _better(before: Outcome | None, now: Outcome) -> Outcome:
    """A row's outcome: a reply that was cut at a smaller limit is better than none."""
    if before is None or now.status.is_answered:
        return now
    return replace(before, requests=now.requests, lost_replies=now.lost_replies)


class _UntilEnded:
    """Rows as they are pulled; raises instead of yielding the next one when replies cannot be kept."""

    def __init__(self, rows: Picked, ledger: PartitionLedger) -> None:
        self._rows = rows
        self._ledger = ledger
        self._is_ended = False

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            if self._is_ended:
                return
            self._ledger.check()
            yield row

    def check(self) -> None:
        """Refuse to request another row.

        Raises:
            InterruptedRunError: The rows were given up.
            StorageError: Replies cannot be kept.
        """
        if self._is_ended:
            message = "The partition was given up: no further row of it is requested."
            raise InterruptedRunError(message)
        self._ledger.check()

    def end(self) -> None:
        """Yield no further row; from any thread."""
        self._is_ended = True
