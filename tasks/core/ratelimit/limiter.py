"""Admission control: one FIFO queue for all requests to a deployment.

A request waits for room in the window, for the request rate, and for the end of the cooldown after a 429. It
holds no slot meanwhile, and fails at once when the limiter stops. The limiter belongs to its event loop.
"""

import asyncio
from collections import deque
from contextlib import suppress

from tasks.core.errors import BreakerError, ParkedError, StopRunError
from tasks.core.ratelimit.circuit_breaker import CircuitBreaker
from tasks.core.ratelimit.cooldown import Cooldown
from tasks.core.ratelimit.ratelimit_headers import RateLimitHeaders
from tasks.core.ratelimit.request_rate import RequestRate
from tasks.core.ratelimit.slot import Slot
from tasks.core.ratelimit.window import Window

_FIRST_REPLY_WAIT_S = 2.0
"""How long the window stays small without a reply. Longer waits for the quota's headers; shorter fills the
window sooner where replies are slow. Chosen, not measured."""


class Limiter:
    """Gives out slots, and decides from replies, refusals and timeouts when the next request may start.

    Args:
        max_concurrent: Requests in flight at most.
        max_wait_s: The longest wait for quota, see ``Cooldown``; the limiter stops instead of waiting longer.
        requests_per_minute: The deployment's quota, if it is known.
        tokens_per_minute: The same, in tokens.

    Attributes:
        in_flight: Requests in flight now.
        stopped_by: The error that stopped the limiter; None while requests start.
    """

    def __init__(
        self,
        max_concurrent: int,
        *,
        max_wait_s: float = 300.0,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
    ) -> None:
        self.max_concurrent = max_concurrent
        self.in_flight = 0
        self.stopped_by: StopRunError | None = None
        self._loop = asyncio.get_running_loop()
        is_known = requests_per_minute is not None or tokens_per_minute is not None
        self._window = Window(max_concurrent, starts_small=not is_known)
        self._rate = RequestRate(requests_per_minute, tokens_per_minute, self._loop.time())
        self._cooldown = Cooldown(max_wait_s)
        self._breaker = CircuitBreaker(max_concurrent)
        self._queue: deque[Slot] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = asyncio.Event()

    @property
    def window(self) -> int:
        """Requests allowed in flight now."""
        return self._window.size

    @property
    def state(self) -> str:
        """Requests in flight, rate and cooldown, in words."""
        if self.stopped_by:
            return f"{self.in_flight} in flight, stopped"
        words, now_s = [f"{self.in_flight} of {self._window.size} in flight"], self._loop.time()
        if rate := self._rate.description(now_s):
            words.append(f"limited to {rate}")
        if (wait_s := self._cooldown.ends_s - now_s) > 0:
            words.append(f"waits {wait_s:.0f} s for quota")
        return ", ".join(words)

    def __repr__(self) -> str:
        """The state, for logs."""
        return f"Limiter({self.state})"

    @property
    def load(self) -> float:
        """Requests in flight and in the queue, as a multiple of the window."""
        return (self.in_flight + len(self._queue)) / self._window.size

    def slot(self, tokens: float = 0.0) -> Slot:
        """A slot to hold with ``async with`` while a request is in flight.

        Args:
            tokens: Tokens that the request is charged to the quota.
        """
        return Slot(self, tokens)

    async def pause(self, wait_s: float) -> None:
        """Wait before a retry.

        Raises:
            StopRunError: The limiter is stopped, or was during the wait.
        """
        if not self.stopped_by:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._stopped.wait()
        if self.stopped_by:
            raise self.stopped_by

    def answered(self) -> None:
        """Count a request that the deployment answered; it ends a series of refusals."""
        self._cooldown.answered()
        self._breaker.answered()
        self._window.answered()

    def attempt_failed(self, reason: str) -> None:
        """Count a request without a usable reply.

        Raises:
            BreakerError: There were many, and the deployment has not answered any request of this run.
        """
        self._stop_if(self._breaker.attempt_failed(reason, self._loop.time()))

    def rejected(self, reason: str) -> None:
        """Count a row that was rejected for a reason that may concern all rows.

        Raises:
            BreakerError: Many rows were, one after the other.
        """
        self._cooldown.answered()
        self._window.answered()
        self._stop_if(self._breaker.row_failed(reason))

    def row_failed(self, reason: str) -> None:
        """Count a row that used up its attempts.

        Raises:
            BreakerError: Many rows did, one after the other, and no request was answered between them.
        """
        self._stop_if(self._breaker.row_failed(reason))

    def timed_out(self, slot: Slot) -> None:
        """Count a request without a reply in time; the deployment may be overloaded."""
        self._window.timed_out(slot.start.at_s, self._loop.time())

    def rate_limited(self, retry_after_s: float | None, slot: Slot | None = None) -> None:
        """Count a 429; no request starts before the cooldown ends.

        Args:
            retry_after_s: The wait that the reply requests; without, waits double from a second to a minute.
            slot: The slot of the refused request, if there is one.

        Raises:
            ParkedError: The wait is longer than ``max_wait_s``.
        """
        now_s = self._loop.time()
        try:
            starts_episode = self._cooldown.refused(now_s, slot.start.at_s if slot else None, retry_after_s)
        except ParkedError as error:
            self.stop(error)
            raise
        if slot:
            self._rate.refused(slot.start, now_s, self._cooldown.ends_s, starts_episode=starts_episode)

    def stop(self, error: StopRunError) -> None:
        """Start no further request; of several errors, the first is raised in all requests that wait."""
        self.stopped_by = self.stopped_by or error
        self._stopped.set()
        while self._queue:
            turn = self._queue.popleft().turn
            if turn and not turn.done():
                turn.set_exception(self.stopped_by)

    def enter(self, slot: Slot) -> bool:
        """Start a request if none waits and it may start now; else add it to the queue.

        Raises:
            StopRunError: The limiter is stopped.
        """
        if self.stopped_by:
            raise self.stopped_by
        if not self._queue and self.in_flight < self._window.size:
            now_s = self._loop.time()
            if self._next_start_s() <= now_s:
                self._start(slot, now_s)
                return True
        slot.turn = self._loop.create_future()
        self._queue.append(slot)
        self._start_next()
        return False

    def confirm(self) -> None:
        """Take the slot back if the limiter was stopped after the request left the queue.

        Raises:
            StopRunError: It was.
        """
        if self.stopped_by:
            self.leave()
            raise self.stopped_by

    def observe(self, slot: Slot, headers: RateLimitHeaders) -> None:
        """Adjust the request rate to the rate limit headers of a slot's reply."""
        self._rate.observe(slot.start, headers, self._loop.time())
        if self._queue:
            self._start_next()

    def leave(self) -> None:
        """Count a request that ended, and start the next one."""
        self.in_flight -= 1
        if self._queue:
            self._start_next()

    def _start_next(self) -> None:
        """Start the requests that may start; set a timer if the next one may start later."""
        while self._queue and self.in_flight < self._window.size:
            now_s = self._loop.time()
            if (start_s := self._next_start_s()) > now_s:
                self._set_timer(start_s)
                return
            slot = self._queue.popleft()
            if slot.turn and not slot.turn.done():
                self._start(slot, now_s)
                slot.turn.set_result(None)

    def _next_start_s(self) -> float:
        return max(self._cooldown.ends_s, self._rate.next_s)

    def _start(self, slot: Slot, now_s: float) -> None:
        if self._window.is_small and not self.in_flight:
            self._loop.call_later(_FIRST_REPLY_WAIT_S, self._open)
        self.in_flight += 1
        self._rate.start(slot.start, now_s)

    def _set_timer(self, at_s: float) -> None:
        if self._timer:
            if self._timer.when() <= at_s:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._rate.log_change()
        self._start_next()

    def _open(self) -> None:
        self._window.open()
        self._start_next()

    def _stop_if(self, error: BreakerError | None) -> None:
        if error:
            self.stop(error)
            raise error
