"""The summarizer: many rows, a bounded number of requests in flight, outcomes in the rows' order.

The one owner of a row's retries. Rows are pulled from an iterator as slots free up, so memory is bounded by
the window, not by the rows; a row that waits for an equal row's reply takes some 100 bytes and no worker.
Every row ends with exactly one outcome, in its own place, whatever order replies come in; only an error that
concerns every row ends the whole.
"""

import asyncio
import logging
import operator
import random
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.core.errors import RateLimitError, RequestError, StopRunError
from tasks.core.ledger.singleflight import Singleflight
from tasks.core.llm.chat_model import ChatModel
from tasks.core.llm.response_policy import CANNOT_BE_SENT
from tasks.core.model import Outcome, Status, Text
from tasks.core.prompt import is_sendable
from tasks.core.ratelimit.limiter import Limiter
from tasks.core.ratelimit.slot import Slot
from tasks.core.rows.batch import Batch, OnRow, Row

logger = logging.getLogger(__name__)

_ROWS_BETWEEN_BREATHS = 500
"""Rows without a request that may follow each other before the loop serves others: some milliseconds."""

_Waiter = tuple[Batch, int]
"""A parked row: its batch, and its place there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How patiently a row is tried.

    Attributes:
        max_attempts: Requests that may fail before the row ends as ``failed``; 429s do not count.
        attempt_timeout_s: Total deadline of one request.
        first_backoff_s: The first wait is a random part of this (full jitter), doubling each time ...
        longest_backoff_s: ... up to a random part of this.
    """

    max_attempts: int = 6
    attempt_timeout_s: float = 120.0
    first_backoff_s: float = 0.5
    longest_backoff_s: float = 30.0

    def backoff_s(self, attempt: int) -> float:
        """Seconds to wait after failed attempt 1, 2, ...; random, so rows do not come back in step."""
        longest_s = min(self.first_backoff_s * 2.0 ** (attempt - 1), self.longest_backoff_s)
        return random.uniform(0.0, longest_s)  # noqa: S311 - no secret hangs on it


class Summarizer:
    """Summarizes rows with one model under one limiter; belongs to their event loop.

    Args:
        model: Sends a request.
        limiter: Bounds what is in flight, over all calls.
        policy: How patiently a row is tried.
        on_outcome: Called on the loop with each outcome, for progress.
    """

    def __init__(
        self,
        model: ChatModel,
        limiter: Limiter,
        policy: RetryPolicy = RetryPolicy(),
        *,
        on_outcome: Callable[[Outcome], object] = lambda _: None,
    ) -> None:
        self._model = model
        self._limiter = limiter
        self._policy = policy
        self._on_outcome = on_outcome
        self._flights: Singleflight[_Waiter] = Singleflight()
        self._batches: deque[Batch] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        # Twice the window, so that rows waiting out a backoff leave no slot idle.
        self._most_workers = 2 * limiter.max_concurrent

    async def summarize(
        self, texts: Iterable[Text], keys: Sequence[bytes | None] = (), on_row: OnRow = lambda *_: None
    ) -> list[Outcome]:
        """Summarize rows.

        Args:
            texts: The rows' texts, pulled as slots free up; None or blank needs no request.
            keys: The rows' keys; rows with equal keys are requested once. Without keys, every row is.
            on_row: Called on the loop with each row's place among the texts and its outcome, the moment it
                is there; so also for rows that end before the whole fails.

        Returns:
            One outcome per row, in the rows' order.

        Raises:
            StopRunError: No row would be served. Requests in flight were let finish first.
        """
        batch = Batch(texts, keys, on_row)
        self._batches.append(batch)
        self._employ(operator.length_hint(texts, self._most_workers))
        try:
            return await batch.outcomes()
        except asyncio.CancelledError:
            gone = batch.cancel()
            # The rows of other batches still need workers.
            self._workers -= gone
            self._employ(len(gone))
            raise

    def _employ(self, wanted: int) -> None:
        for _ in range(min(max(wanted, 1), self._most_workers - len(self._workers))):
            worker = asyncio.create_task(self._employed())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _employed(self) -> None:
        """Work; who ends is not counted any more when the next batch comes, even in the same moment."""
        try:
            await self._work()
        finally:
            self._workers -= {asyncio.current_task()}
            if self._flights.is_leaderless:
                # This worker was cut off while its row led a flight on which rows of other batches may wait.
                self._employ(1)

    async def _work(self) -> None:
        while pulled := self._next():
            batch, row = pulled
            if not is_sendable(row.text):
                with batch.at_work():
                    self._put(batch, row.place, _unsent(row.text))
            elif row.key is None:
                with batch.at_work():
                    self._put(batch, row.place, await self._request(row.text))
            else:
                await self._share(batch, row.place, row.key, row.text)
            if row.place % _ROWS_BETWEEN_BREATHS == 0:
                await asyncio.sleep(0)

    def _next(self) -> tuple[Batch, Row] | None:
        """The next row: of a flight without a leader, else of the oldest batch, which is to end first."""
        while waiting := self._flights.next_leader():
            key, text, (batch, place) = waiting
            if batch.unpark():
                return batch, Row(place, text, key)
        while self._batches:
            if row := self._batches[0].pull():
                return self._batches[0], row
            self._batches.popleft()
        return None

    async def _share(self, batch: Batch, place: int, key: bytes, text: str) -> None:
        """Find an equal row's reply, or wait for it, or request it for all equal rows."""
        if reply := self._flights.reply(key):
            with batch.at_work():
                self._put(batch, place, reply)
        elif self._flights.join(key, text, (batch, place)):
            await self._lead(batch, place, key, text)
        else:
            batch.park()

    async def _lead(self, batch: Batch, place: int, key: bytes, text: str) -> None:
        outcome: Outcome | None = None
        try:
            with batch.at_work():
                outcome = await self._request(text)
                self._put(batch, place, outcome)
        finally:
            served = self._flights.end(key, outcome)
        # Not as work of the leader's batch: cancelling that one must not keep the reply from other batches.
        for number, ((waiting, its_place), reply) in enumerate(served, 1):
            with waiting.at_work():
                waiting.unpark()
                self._put(waiting, its_place, reply)
            if number % _ROWS_BETWEEN_BREATHS == 0:
                await asyncio.sleep(0)

    def _put(self, batch: Batch, place: int, outcome: Outcome) -> None:
        batch.put(place, outcome)
        self._on_outcome(outcome)

    async def _request(self, text: str) -> Outcome:
        """Try until there is an outcome; waits hold no slot."""
        requests = failures = lost = 0
        while True:
            try:
                slot = self._limiter.slot(text)
                async with slot:
                    requests += 1
                    outcome = await self._attempt(text, slot)
                break
            except RateLimitError:
                continue  # the slot has told the limiter
            except RequestError as error:
                failures, lost = failures + 1, lost + error.possibly_paid
                self._limiter.attempt_failed(str(error))
                if failures >= self._policy.max_attempts:
                    self._limiter.row_failed(str(error))
                    outcome = Outcome(Status.FAILED, error=f"{failures} attempts, the last: {error}")
                    break
                await self._limiter.pause(self._policy.backoff_s(failures))
            except StopRunError:
                raise
            except Exception as error:  # noqa: BLE001 - one bad row is one bad row
                logger.error("A row failed in a way nobody foresaw: %s", _place(error))  # noqa: TRY400 - see _place
                outcome = Outcome(Status.FAILED, error=f"unexpected {type(error).__name__}")
                break
        return replace(outcome, requests=requests, lost_replies=lost)

    async def _attempt(self, text: str, slot: Slot) -> Outcome:
        try:
            async with asyncio.timeout(self._policy.attempt_timeout_s):
                outcome = await self._model.summarize(text)
        except TimeoutError:
            self._limiter.timed_out(slot)
            message = f"no complete reply in {self._policy.attempt_timeout_s:g} s"
            raise RequestError(message, possibly_paid=True) from None
        if outcome.status is Status.FAILED and outcome.model is None:
            if outcome is not CANNOT_BE_SENT:
                self._limiter.rejected(outcome.error or "")
        else:
            self._limiter.answered()
        return outcome


def _unsent(text: object) -> Outcome:
    """The outcome of a row that has no text to send."""
    if isinstance(text, bytes):
        return Outcome(Status.FAILED, error="the text is not valid UTF-8")
    if text is not None and not isinstance(text, str):
        # From a script without a type checker: not worth the other rows.
        return Outcome(Status.FAILED, error=f"the text is a {type(text).__name__}")
    return Outcome(Status.EMPTY)


def _place(error: Exception) -> str:
    """Class and line of an error; its message may quote the row, so it is not told."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {frame.name}, line {frame.lineno} of {Path(frame.filename).name}"
