"""The summarizer: many rows, a bounded number of requests in flight, outcomes in the rows' order.

The one owner of a row's retries. Rows are pulled from an iterator as slots free up, so memory is bounded by
the window, not by the rows. Every row ends with exactly one outcome, in its own place, whatever order replies
come in; only an error that concerns every row ends the whole.
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
from tasks.core.ledger.singleflight import SharedReplies
from tasks.core.llm.chat_model import ChatModel
from tasks.core.llm.response_policy import CANNOT_BE_SENT
from tasks.core.model import Outcome, Status, Text
from tasks.core.prompt import is_sendable
from tasks.core.ratelimit.limiter import Limiter
from tasks.core.ratelimit.slot import Slot
from tasks.core.rows.batch import Batch, OnRow

logger = logging.getLogger(__name__)

_ROWS_BETWEEN_BREATHS = 500


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
        self._shared = SharedReplies()
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

    async def _work(self) -> None:
        """Work on the oldest batch that has rows left, so that batches end in the order they came."""
        while self._batches:
            batch = self._batches[0]
            for row in batch.pull():
                with batch.at_work():
                    outcome = await self._outcome(row.text, row.key)
                    batch.put(row, outcome)
                    self._on_outcome(outcome)
                    if not outcome.requests and row.place % _ROWS_BETWEEN_BREATHS == 0:
                        # Rows without a request never wait; thousands must not keep the loop from others.
                        await asyncio.sleep(0)
            if self._batches and self._batches[0] is batch:
                self._batches.popleft()

    async def _outcome(self, text: object, key: bytes | None) -> Outcome:
        if isinstance(text, bytes):
            return Outcome(Status.FAILED, error="the text is not valid UTF-8")
        if text is not None and not isinstance(text, str):
            # From a script without a type checker: not worth the other rows.
            return Outcome(Status.FAILED, error=f"the text is a {type(text).__name__}")
        if not is_sendable(text):
            return Outcome(Status.EMPTY)
        if key is None:
            return await self._request(text)
        return await self._shared.once(key, lambda: self._request(text))

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


def _place(error: Exception) -> str:
    """Class and line of an error; its message may quote the row, so it is not told."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {frame.name}, line {frame.lineno} of {Path(frame.filename).name}"
