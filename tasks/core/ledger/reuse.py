"""Rows through their account: what is paid for is looked up, only the rest is requested, and kept at once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from tasks.core.errors import InterruptedRunError, PipelineError
from tasks.core.ledger.partition_ledger import PartitionLedger
from tasks.core.ledger.reply_index import is_final
from tasks.core.model import Outcome, Status, Text
from tasks.core.prompt import Request

Waiting = Callable[[], Sequence[Outcome]]
"""Waits for rows that were handed in: one outcome per row, in the rows' order."""


class RowService(Protocol):
    """Where rows are handed in; the gateway is one."""

    def begin(
        self, texts: Iterable[Text], keys: Sequence[bytes | None], on_row: Callable[[int, Outcome], object]
    ) -> Waiting:
        """Take rows and return at once; each row's outcome is told to ``on_row`` when it is there."""
        ...


class Texts(Protocol):
    """Rows that can be gone through twice: for their keys, and for what is sent."""

    def __iter__(self) -> Iterator[Text]:
        """Each row's text."""
        ...

    def __len__(self) -> int:
        """How many rows."""
        ...


class Asked:
    """Rows that were handed in.

    Args:
        known: What was known before, None for a row that was not.
        texts: The texts of the rows that are requested, as they are pulled.
        waiting: Waits for the outcomes of these.
        max_output_tokens: The limit they are requested under.
    """

    def __init__(
        self,
        known: Sequence[Outcome | None],
        texts: "_WhileKept",
        waiting: Waiting,
        max_output_tokens: int,
    ) -> None:
        self._known = known
        self._max_output_tokens = max_output_tokens
        self._texts = texts
        self._waiting = waiting

    def outcomes(self) -> list[Outcome]:
        """Wait for all: one outcome per row, in the rows' order.

        Raises:
            StopRunError: No row would be served; what was answered is kept.
            StorageError: Replies cannot be kept, so no more are asked for.
        """
        asked = iter(self._waiting())
        return [
            known
            if known is not None and is_final(known, self._max_output_tokens)
            else _better(known, next(asked))
            for known in self._known
        ]

    def give_up(self) -> None:
        """Begin no further row."""
        self._texts.end()

    def wait(self) -> None:
        """Wait for the rows in flight, whatever becomes of them."""
        with suppress(PipelineError):
            self._waiting()


class AskOnce:
    """A partition's rows, each asked for at most once.

    Args:
        rows: Where rows are summarized.
        request: What all requests have in common.
        account: What is paid for, and where replies are kept.
    """

    def __init__(self, rows: RowService, request: Request, account: PartitionLedger) -> None:
        self._rows = rows
        self._request = request
        self._account = account

    def ask(self, texts: Texts) -> Asked:
        """Hand in rows; those that are not known are requested from now on."""
        request, limit = self._request, self._request.max_output_tokens
        keys = request.row_keys(texts)
        known = self._account.find(keys, texts, request.earlier)
        is_asked = [outcome is None or not is_final(outcome, limit) for outcome in known]
        missing = [key for key, asked in zip(keys, is_asked, strict=True) if asked]
        self._account.count_reused(len(known) - len(missing))
        if len(missing) < len(known):
            # Picked here and not while they are pulled: passing over a million known rows would hold up the
            # loop that all partitions share.
            texts = [text for text, asked in zip(texts, is_asked, strict=True) if asked]
        asked = _WhileKept(texts, self._account)
        return Asked(known, asked, self._begin(asked, missing) if missing else list, limit)

    def store_now(self) -> None:
        """Store the last replies without waiting for more; returns at once."""
        self._account.store_now()

    def _begin(self, texts: "_WhileKept", keys: Sequence[bytes | None]) -> Waiting:
        def keep(place: int, outcome: Outcome) -> None:
            self._account.count(1, failed=outcome.status is Status.FAILED)
            key = keys[place]
            if key is not None and outcome.status.is_answered:
                self._account.append(key, outcome)
            else:
                # Equal rows that wait for this one would be requested next.
                texts.check()

        return self._rows.begin(texts, keys, keep)


def _better(before: Outcome | None, now: Outcome) -> Outcome:
    """What a row ends with: a reply that was cut earlier is better than none."""
    if before is None or now.status.is_answered:
        return now
    return replace(before, requests=now.requests, lost_replies=now.lost_replies)


class _WhileKept:
    """Texts as they are pulled; an error instead of the next one when replies cannot be kept."""

    def __init__(self, texts: Texts, account: PartitionLedger) -> None:
        self._texts = texts
        self._account = account
        self._is_ended = False

    def __len__(self) -> int:
        return len(self._texts)

    def __iter__(self) -> Iterator[Text]:
        for text in self._texts:
            if self._is_ended:
                return
            self._account.check()
            yield text

    def check(self) -> None:
        """Refuse to request another row.

        Raises:
            InterruptedRunError: The rows were given up.
            StorageError: Replies cannot be kept.
        """
        if self._is_ended:
            message = "The partition was given up: no further row of it is requested."
            raise InterruptedRunError(message)
        self._account.check()

    def end(self) -> None:
        """Yield no further text; from any thread."""
        self._is_ended = True
