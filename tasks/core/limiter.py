"""How many requests may be in flight, and when none may start.

One limiter serves all partitions of a run. It bounds the requests in flight, lets every row wait when the
deployment says 429, and refuses every row once the run is stopped. A row that waits holds no slot, and hears
at once when the run stops. The limiter belongs to the event loop it is used in.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import NoReturn

from tasks.core.errors import BreakerError, ParkedError, StopRunError

_FIRST_WAIT_S = 1.0
_LONGEST_UNTOLD_WAIT_S = 60.0
_SHORTEST_WAIT_S = 0.1
_SPREAD = 0.1
_BREAKER = 50


class Limiter:
    """Slots for requests, and a cool-down all rows share.

    Args:
        max_concurrent: Requests in flight at most.
        max_wait_s: The longest wait for quota to sit out: as asked for by one reply, or summed up over a
            series of refusals without a reply between them.
    """

    def __init__(self, max_concurrent: int, *, max_wait_s: float = 300.0) -> None:
        self.max_concurrent = max_concurrent
        self.in_flight = 0
        self._max_wait_s = max_wait_s
        self._slots = asyncio.Semaphore(max_concurrent)
        self._open_at_s = 0.0
        self._refused_since_s: float | None = None
        self._waits = 0
        self._failed_in_a_row = 0
        self._unanswered: int | None = 0
        self._stopped_by: StopRunError | None = None
        self._stopped = asyncio.Event()

    def __repr__(self) -> str:
        """The state, for logs."""
        state = "stopped" if self._stopped_by else f"{self._waits} waits in a row"
        return f"Limiter({self.in_flight} of {self.max_concurrent} in flight, {state})"

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold one slot while a request is in flight.

        Raises:
            StopRunError: The run is stopped; no request may start.
        """
        await self._acquire()
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1
            self._slots.release()

    async def pause(self, wait_s: float) -> None:
        """Wait, unless the run stops meanwhile.

        Raises:
            StopRunError: The run is stopped.
        """
        if not self._stopped_by:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._stopped.wait()
        if self._stopped_by:
            raise self._stopped_by

    def answered(self) -> None:
        """The deployment served a request: the series of refusals, if there was one, is over."""
        self._refused_since_s = None
        self._waits = self._failed_in_a_row = 0
        self._unanswered = None

    def attempt_failed(self, reason: str) -> None:
        """A request got no usable reply.

        Raises:
            BreakerError: Many did, and the deployment has not answered one request of this run.
        """
        if self._unanswered is None:
            return
        self._unanswered += 1
        if self._unanswered >= max(2 * self.max_concurrent, _BREAKER):
            self._break(f"{self._unanswered} requests were sent and none was answered ({reason})")

    def row_failed(self, reason: str) -> None:
        """A row used up its attempts.

        Raises:
            BreakerError: Many rows did, one after the other, and the deployment answered none meanwhile.
        """
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= max(self.max_concurrent, _BREAKER):
            self._break(f"the last {self._failed_in_a_row} rows failed and none was answered ({reason})")

    def rate_limited(self, retry_after_s: float | None) -> None:
        """The deployment said 429: nobody starts before it may serve again.

        Args:
            retry_after_s: Seconds it asked to wait; without, waits double from one second to a minute.

        Raises:
            ParkedError: The wait is longer than ``max_wait_s``.
        """
        now_s = _now_s()
        if self._refused_since_s is None:
            self._refused_since_s = now_s
        wait_s = self._untold_wait_s(now_s) if retry_after_s is None else max(retry_after_s, _SHORTEST_WAIT_S)
        if max(wait_s, now_s - self._refused_since_s) > self._max_wait_s:
            parked = _parked(wait_s, now_s - self._refused_since_s)
            self.stop(parked)
            raise parked
        if now_s >= self._open_at_s:
            # The first refusal of a round; those that were in flight with it report the same fact.
            self._waits += 1
        self._open_at_s = max(self._open_at_s, now_s + wait_s)

    def stop(self, error: StopRunError) -> None:
        """Let no further request start; the first reason given is the one that is told."""
        self._stopped_by = self._stopped_by or error
        self._stopped.set()

    def _break(self, what: str) -> NoReturn:
        message = (
            f"Stopped, {what}: check AZURE_OPENAI_ENDPOINT, the deployment and the network, then run the "
            "same command again."
        )
        error = BreakerError(message)
        self.stop(error)
        raise error

    async def _acquire(self) -> None:
        while True:
            while (closed_s := self._open_at_s - _now_s()) > 0 or self._stopped_by:
                # A little spread, so that not all rows knock in the same millisecond.
                await self.pause(closed_s * random.uniform(1.0, 1.0 + _SPREAD))  # noqa: S311 - no secret
            await self._slots.acquire()
            if not self._stopped_by and _now_s() >= self._open_at_s:
                return
            # The gate closed while this row stood in line: it must not wait with a slot in its hand.
            self._slots.release()

    def _untold_wait_s(self, now_s: float) -> float:
        """How long to wait when the deployment did not say: the round's wait, longer each round."""
        if now_s < self._open_at_s:
            return self._open_at_s - now_s
        return min(_FIRST_WAIT_S * 2.0**self._waits, _LONGEST_UNTOLD_WAIT_S)


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _parked(wait_s: float, refused_s: float) -> ParkedError:
    asked = (
        f"asks to wait {wait_s:.0f} s"
        if wait_s > refused_s
        else f"has refused everything for {refused_s:.0f} s"
    )
    message = f"HTTP 429: the deployment {asked}. Run the same command again later, or raise max_wait_s."
    return ParkedError(message, wait_s=wait_s)
