"""Summarizer: requests many rows with a bounded number in flight, and returns outcomes in the rows' order.

Only this module retries requests. Workers pull rows from an iterator, so memory is bounded by the window and
not by the number of rows; a row that waits for an equal row's reply takes some 100 bytes and no worker. Each
row ends with exactly one outcome, in any order of replies. Only an error that concerns every row ends the
call.
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
from tasks.core.rows.lane import Lane, least_loaded_lane

logger = logging.getLogger(__name__)

_ROWS_BETWEEN_YIELDS = 500
"""Rows without a request that are processed before the event loop runs other tasks. More blocks the loop
longer (here some milliseconds); fewer costs CPU time for switching. Chosen, not measured."""

_Waiter = tuple[Batch, int]
"""A row that waits for an equal row's reply: its batch, and its place there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Retries and timeouts of a row; the backoff is exponential with full jitter.

    Attributes:
        max_attempts: Requests that may fail before the row ends as ``failed``; 429s do not count.
        attempt_timeout_s: Total deadline of one request.
        first_backoff_s: Longest wait after the first failure; it doubles with each failure. Shorter retries
            before a short fault has ended; longer delays the partition's last rows.
        longest_backoff_s: Upper bound of that. Shorter sends more requests to a deployment that fails; longer
            delays the recovery. Both were chosen, not measured.
    """

    max_attempts: int = 6
    attempt_timeout_s: float = 120.0
    first_backoff_s: float = 0.5
    longest_backoff_s: float = 30.0

    def backoff_s(self, attempt: int) -> float:
        """Seconds to wait after failed attempt 1, 2, ...; random, so that rows do not retry together."""
        longest_s = min(self.first_backoff_s * 2.0 ** (attempt - 1), self.longest_backoff_s)
        return random.uniform(0.0, longest_s)  # noqa: S311 - no secret


class Summarizer:
    """Summarizes rows over one or several lanes; belongs to their event loop.

    Args:
        lanes: The endpoints, each with its limiter.
        policy: Retries and timeouts.
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
        # Twice the windows, so that rows which wait before a retry leave no slot idle.
        self._max_workers = 2 * sum(lane.limiter.max_concurrent for lane in lanes)

    async def summarize(self, rows: Iterable[Row], on_row: OnRow = lambda *_: None) -> list[Outcome]:
        """Summarize rows; rows with equal keys are requested once.

        Args:
            rows: The rows, pulled when a worker is free; a row that is an outcome already needs no request.
            on_row: Called on the loop with each row's place and outcome as soon as it has one, also before an
                error ends the call.

        Returns:
            One outcome per row, in the rows' order.

        Raises:
            StopRunError: An error concerns every row. Requests in flight were finished first.
        """
        batch = Batch(rows, on_row)
        self._batches.append(batch)
        self._start_workers(operator.length_hint(rows, self._max_workers))
        try:
            return await batch.outcomes()
        except asyncio.CancelledError:
            cancelled = batch.cancel()
            # The rows of other batches still need workers.
            self._workers -= cancelled
            self._start_workers(len(cancelled))
            raise

    def _start_workers(self, wanted: int) -> None:
        for _ in range(min(max(wanted, 1), self._max_workers - len(self._workers))):
            worker = asyncio.create_task(self._run_worker())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _run_worker(self) -> None:
        """Process rows until there are none; the worker is removed before another batch can begin."""
        try:
            await self._work()
        finally:
            self._workers -= {asyncio.current_task()}
            if self._flights.has_leaderless:
                # This worker was cancelled while its row led a flight; rows of other batches may wait for it.
                self._start_workers(1)

    async def _work(self) -> None:
        while pulled := self._next():
            batch, place, row = pulled
            if isinstance(row, Outcome):
                with batch.working():
                    self._put(batch, place, row)
            else:
                await self._join_flight(batch, place, row)
            if place % _ROWS_BETWEEN_YIELDS == 0:
                await asyncio.sleep(0)

    def _next(self) -> tuple[Batch, int, Row] | None:
        """The next row: of a flight without a leader, else of the oldest batch, so that it ends first."""
        while waiting := self._flights.next_leader():
            row, (batch, place) = waiting
            if batch.end_wait():
                return batch, place, row
        while self._batches:
            if pulled := self._batches[0].pull():
                return self._batches[0], *pulled
            self._batches.popleft()
        return None

    async def _join_flight(self, batch: Batch, place: int, row: RenderedRow) -> None:
        """Use an equal row's reply, or wait for it, or request this row for all equal ones."""
        if reply := self._flights.reply(row.key):
            with batch.working():
                self._put(batch, place, reply)
        elif self._flights.join(row, (batch, place)):
            await self._lead(batch, place, row)
        else:
            batch.begin_wait()

    async def _lead(self, batch: Batch, place: int, row: RenderedRow) -> None:
        outcome: Outcome | None = None
        try:
            with batch.working():
                outcome = await self._request(row)
                self._put(batch, place, outcome)
        finally:
            served = self._flights.end(row.key, outcome)
        # Outside the leader's batch: if that one is cancelled, waiters of other batches still get the reply.
        for number, ((waiting, its_place), reply) in enumerate(served, 1):
            with waiting.working():
                waiting.end_wait()
                self._put(waiting, its_place, reply)
            if number % _ROWS_BETWEEN_YIELDS == 0:
                await asyncio.sleep(0)

    def _put(self, batch: Batch, place: int, outcome: Outcome) -> None:
        batch.put(place, outcome)
        self._on_outcome(outcome)

    async def _request(self, row: RenderedRow) -> Outcome:
        """Send requests until there is an outcome."""
        attempts = _Attempts()
        while True:
            lane = least_loaded_lane(self._lanes)
            # When all lanes are stopped, `least_loaded_lane` raises the error.
            with suppress(StopRunError):
                if outcome := await self._try(lane, row, attempts):
                    return replace(outcome, requests=attempts.requests, lost_replies=attempts.lost_replies)

    async def _try(self, lane: Lane, row: RenderedRow, attempts: "_Attempts") -> Outcome | None:
        """Send one request; None if the row is to be retried, after a wait that holds no slot."""
        try:
            outcome = await lane.attempt(row, self._policy.attempt_timeout_s)
        except StopRunError:
            raise
        except RateLimitError:
            # Uses up no attempt; the limiter waits as the endpoint requests.
            attempts.requests += 1
            return None
        except RequestError as error:
            attempts.count(error)
            lane.limiter.attempt_failed(str(error))
            if attempts.failures >= self._policy.max_attempts:
                lane.limiter.row_failed(str(error))
                return Outcome(Status.FAILED, error=f"{attempts.failures} attempts, the last: {error}")
            await lane.limiter.pause(self._policy.backoff_s(attempts.failures))
            return None
        except Exception as error:  # noqa: BLE001 - one bad row is one bad row
            logger.error("A row failed with an unexpected exception: %s", _place(error))  # noqa: TRY400 - see _place
            outcome = Outcome(Status.FAILED, error=f"unexpected {type(error).__name__}")
        attempts.requests += 1
        return outcome


@dataclass(slots=True)
class _Attempts:
    """Counts the requests for one row.

    Attributes:
        requests: Requests sent.
        failures: Attempts that failed.
        lost_replies: Requests that may be billed and whose reply was lost.
    """

    requests: int = 0
    failures: int = 0
    lost_replies: int = 0

    def count(self, error: RequestError) -> None:
        self.requests += error.sent
        self.failures += 1
        self.lost_replies += error.possibly_paid


def _place(error: Exception) -> str:
    """Class and line of an exception, without its message, which may quote the row."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {frame.name}, line {frame.lineno} of {Path(frame.filename).name}"
