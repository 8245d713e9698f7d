"""The summarizer: many rows, a bounded number of requests in flight, outcomes in the rows' order.

Retries of a row are decided here and nowhere else. Rows are pulled from an iterator as slots free up, so
memory is bounded by the window, not by the rows; a row that waits for an equal row's reply takes some 100
bytes and no worker. Every row ends with exactly one outcome, in its own place, whatever order replies come
in; only an error that concerns every row ends the call.
"""

import asyncio
import logging
import operator
import random
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.core.errors import RateLimitError, RequestError, StopRunError
from tasks.core.ledger.singleflight import Singleflight
from tasks.core.model import Outcome, Status
from tasks.core.prompt import RenderedRow
from tasks.core.rows.batch import Batch, OnRow, Row
from tasks.core.rows.lane import Lane, next_lane

logger = logging.getLogger(__name__)

_ROWS_BETWEEN_YIELDS = 500
"""Rows without a request that may follow each other before the loop serves others: some milliseconds."""

_Waiter = tuple[Batch, int]
"""A parked row: its batch, and its place there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often, how long and how soon a row is tried.

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
    """Summarizes rows over one or several lanes; belongs to their event loop.

    Args:
        lanes: The endpoints, each with its limiter.
        policy: How often, how long and how soon a row is tried.
        on_outcome: Called on the loop with each outcome, for progress.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        policy: RetryPolicy = RetryPolicy(),
        *,
        on_outcome: Callable[[Outcome], object] = lambda _: None,
    ) -> None:
        self._lanes = lanes
        self._policy = policy
        self._on_outcome = on_outcome
        self._flights: Singleflight[_Waiter] = Singleflight()
        self._batches: deque[Batch] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        # Twice the windows, so that rows waiting out a backoff leave no slot idle.
        self._most_workers = 2 * sum(lane.limiter.max_concurrent for lane in lanes)

    async def summarize(self, rows: Iterable[Row], on_row: OnRow = lambda *_: None) -> list[Outcome]:
        """Summarize rows; rows with equal keys are requested once.

        Args:
            rows: The rows, pulled as slots free up; a row that is an outcome already needs no request.
            on_row: Called on the loop with each row's place among the rows and its outcome, as soon as it has
                one; also for rows that end before an error ends the call.

        Returns:
            One outcome per row, in the rows' order.

        Raises:
            StopRunError: No row would be served. Requests in flight were given time to finish first.
        """
        batch = Batch(rows, on_row)
        self._batches.append(batch)
        self._employ(operator.length_hint(rows, self._most_workers))
        try:
            return await batch.outcomes()
        except asyncio.CancelledError:
            cancelled = batch.cancel()
            # The rows of other batches still need workers.
            self._workers -= cancelled
            self._employ(len(cancelled))
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
            batch, place, row = pulled
            if isinstance(row, Outcome):
                with batch.at_work():
                    self._put(batch, place, row)
            else:
                await self._share(batch, place, row)
            if place % _ROWS_BETWEEN_YIELDS == 0:
                await asyncio.sleep(0)

    def _next(self) -> tuple[Batch, int, Row] | None:
        """The next row: of a flight without a leader, else of the oldest batch, which is to end first."""
        while waiting := self._flights.next_leader():
            row, (batch, place) = waiting
            if batch.unpark():
                return batch, place, row
        while self._batches:
            if pulled := self._batches[0].pull():
                return self._batches[0], *pulled
            self._batches.popleft()
        return None

    async def _share(self, batch: Batch, place: int, row: RenderedRow) -> None:
        """Find an equal row's reply, or wait for it, or request it for all equal rows."""
        if reply := self._flights.reply(row.key):
            with batch.at_work():
                self._put(batch, place, reply)
        elif self._flights.join(row, (batch, place)):
            await self._lead(batch, place, row)
        else:
            batch.park()

    async def _lead(self, batch: Batch, place: int, row: RenderedRow) -> None:
        outcome: Outcome | None = None
        try:
            with batch.at_work():
                outcome = await self._request(row)
                self._put(batch, place, outcome)
        finally:
            served = self._flights.end(row.key, outcome)
        # Not as work of the leader's batch: cancelling that one must not keep the reply from other batches.
        for number, ((waiting, its_place), reply) in enumerate(served, 1):
            with waiting.at_work():
                waiting.unpark()
                self._put(waiting, its_place, reply)
            if number % _ROWS_BETWEEN_YIELDS == 0:
                await asyncio.sleep(0)

    def _put(self, batch: Batch, place: int, outcome: Outcome) -> None:
        batch.put(place, outcome)
        self._on_outcome(outcome)

    async def _request(self, row: RenderedRow) -> Outcome:
        """Try until there is an outcome."""
        tries = _Tries()
        while True:
            lane = next_lane(self._lanes)
            # When all lanes are stopped, `next_lane` raises the reason.
            with suppress(StopRunError):
                if outcome := await self._try(lane, row, tries):
                    return replace(outcome, requests=tries.requests, lost_replies=tries.lost_replies)

    async def _try(self, lane: Lane, row: RenderedRow, tries: "_Tries") -> Outcome | None:
        """Send one request; None if the row is to be tried again, after a wait that holds no slot."""
        try:
            outcome = await lane.attempt(row, self._policy.attempt_timeout_s)
        except StopRunError:
            raise
        except RateLimitError:
            # No attempt is used up: the limiter waits as long as the endpoint asked.
            tries.requests += 1
            return None
        except RequestError as error:
            tries.count(error)
            lane.limiter.attempt_failed(str(error))
            if tries.failures >= self._policy.max_attempts:
                lane.limiter.row_failed(str(error))
                return Outcome(Status.FAILED, error=f"{tries.failures} attempts, the last: {error}")
            await lane.limiter.pause(self._policy.backoff_s(tries.failures))
            return None
        except Exception as error:  # noqa: BLE001 - one bad row is one bad row
            logger.error("A row failed with an unexpected exception: %s", _place(error))  # noqa: TRY400 - see _place
            outcome = Outcome(Status.FAILED, error=f"unexpected {type(error).__name__}")
        tries.requests += 1
        return outcome


@dataclass(slots=True)
class _Tries:
    """What was tried for one row.

    Attributes:
        requests: Requests sent.
        failures: Attempts that failed.
        lost_replies: Requests that may be on the bill, and whose reply was lost.
    """

    requests: int = 0
    failures: int = 0
    lost_replies: int = 0

    def count(self, error: RequestError) -> None:
        self.requests += error.sent
        self.failures += 1
        self.lost_replies += error.possibly_paid


def _place(error: Exception) -> str:
    """Class and line of an error; its message may quote the row, so it is left out."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {frame.name}, line {frame.lineno} of {Path(frame.filename).name}"
