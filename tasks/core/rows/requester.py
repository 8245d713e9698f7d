"""Requests the rows of a partition that its ledger lacks, and appends each reply to the ledger at once."""

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
from tasks.core.rows.row_source import RowSlice, SelectedRows

WaitForOutcomes = Callable[[], Sequence[Outcome]]
"""Blocks until all submitted rows have ended; returns one outcome per row, in the rows' order."""


class Rows(Protocol):
    """An iterable of rows with a length."""

    def __iter__(self) -> Iterator[Row]:
        """Each row."""
        ...

    def __len__(self) -> int:
        """Number of rows."""
        ...


class RowService(Protocol):
    """Summarizes submitted rows; implemented by the gateway."""

    def begin(self, rows: Rows, on_row: OnRow) -> WaitForOutcomes:
        """Submit rows and return at once; ``on_row`` is called with each row's place and its outcome."""
        ...


class RequestedRows:
    """The rows of a slice: some found in the ledger, the others requested.

    Args:
        found: Each row's outcome in the ledger; None for a row without one.
        pulled: The rows that are requested.
        wait_for_outcomes: Waits for the outcomes of these.
        max_output_tokens: The limit of their requests.
    """

    def __init__(
        self,
        found: Sequence[Outcome | None],
        pulled: "_UntilEnded",
        wait_for_outcomes: WaitForOutcomes,
        max_output_tokens: int,
    ) -> None:
        self._found = found
        self._max_output_tokens = max_output_tokens
        self._pulled = pulled
        self._wait_for_outcomes = wait_for_outcomes

    def outcomes(self) -> list[Outcome]:
        """Wait for all: one outcome per row, in the rows' order.

        Raises:
            StopRunError: An error concerns every row; replies received before are in the ledger.
            StorageError: Replies cannot be stored, so no further row is requested.
        """
        requested = iter(self._wait_for_outcomes())
        return [
            found
            if found is not None and is_final(found, self._max_output_tokens)
            else _better(found, next(requested))
            for found in self._found
        ]

    def give_up(self) -> None:
        """Request no further row."""
        self._pulled.end()

    def wait(self) -> None:
        """Wait for the rows in flight, also if they fail."""
        with suppress(PipelineError):
            self._wait_for_outcomes()


class Requester:
    """Requests each row of a partition at most once.

    Args:
        service: Summarizes rows.
        ledger: The partition's ledger: replies are looked up in it and appended to it.
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

    def request(self, rows: RowSlice) -> RequestedRows:
        """Begin to request the rows that have no final reply in the ledger; returns at once."""
        limit = self._max_output_tokens
        found = self._ledger.find(rows.keys, rows.texts, self._earlier)
        is_missing = [outcome is None or not is_final(outcome, limit) for outcome in found]
        missing = rows.select(is_missing)
        self._ledger.count_reused(len(found) - len(missing))
        pulled = _UntilEnded(missing, self._ledger)
        wait = self._begin(pulled, missing.keys) if len(missing) else list
        return RequestedRows(found, pulled, wait, limit)

    def store_now(self) -> None:
        """Commit the last replies to the ledger without waiting for more; returns at once."""
        self._ledger.store_now()

    def _begin(self, rows: "_UntilEnded", keys: Sequence[bytes | None]) -> WaitForOutcomes:
        def keep(place: int, outcome: Outcome) -> None:
            self._ledger.count(1, failed=outcome.status is Status.FAILED)
            key = keys[place]
            if key is not None and outcome.status.is_answered:
                self._ledger.append(key, outcome)
            else:
                # Raises before an equal row that waits for this one is requested.
                rows.check()

        return self._service.begin(rows, keep)


def _better(before: Outcome | None, now: Outcome) -> Outcome:
    """The new outcome if it is a reply; else the one in the ledger, truncated at a smaller limit."""
    if before is None or now.status.is_answered:
        return now
    return replace(before, requests=now.requests, lost_replies=now.lost_replies)


class _UntilEnded:
    """Yields rows until ``end`` is called; raises if replies cannot be stored."""

    def __init__(self, rows: SelectedRows, ledger: PartitionLedger) -> None:
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
        """Raise if no further row may be requested.

        Raises:
            InterruptedRunError: ``end`` was called.
            StorageError: Replies cannot be stored.
        """
        if self._is_ended:
            message = "The partition was interrupted: no further row of it is requested."
            raise InterruptedRunError(message)
        self._ledger.check()

    def end(self) -> None:
        """Yield no further row; from any thread."""
        self._is_ended = True
