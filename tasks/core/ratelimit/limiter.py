"""When a request may start: one line for all rows of a run, and what lets the next one go.

A row waits for a place in the window, for the pace of the quota, and for the cooldown, which closes when the
deployment says 429. A request that waits holds no slot, and ends at once when the run stops. Rows start in
the order they came. The limiter belongs to the event loop it is used in.
"""

import asyncio
from collections import deque
from contextlib import suppress

from tasks.core.errors import BreakerError, ParkedError, StopRunError
from tasks.core.ratelimit.circuit_breaker import CircuitBreaker
from tasks.core.ratelimit.cooldown import Cooldown
from tasks.core.ratelimit.pacer import Pacer
from tasks.core.ratelimit.ratelimit_headers import RateLimitHeaders
from tasks.core.ratelimit.slot import Slot
from tasks.core.ratelimit.window import Window

_LONGEST_SMALL_S = 2.0
"""A first reply that takes longer is not waited for: what it says of the quota is not worth the time."""


class Limiter:
    """Slots for requests.

    Args:
        max_concurrent: Requests in flight at most.
        max_wait_s: The longest wait for quota to sit out: as asked for by one reply, or summed up over a
            series of refusals without a reply between them.
        requests_per_minute: The deployment's quota, when it is known.
        tokens_per_minute: The same, in tokens.

    Attributes:
        max_concurrent: Requests in flight at most.
        in_flight: Requests in flight now.
        stopped_by: Why no further request starts; None while they do.
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
        self._pacer = Pacer(requests_per_minute, tokens_per_minute, self._loop.time())
        self._cooldown = Cooldown(max_wait_s)
        self._breaker = CircuitBreaker(max_concurrent)
        self._line: deque[Slot] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        self._stopped = asyncio.Event()

    @property
    def window(self) -> int:
        """Requests allowed in flight now."""
        return self._window.size

    @property
    def state(self) -> str:
        """What goes on, in a few words for people."""
        if self.stopped_by:
            return f"{self.in_flight} in flight, stopped"
        words, now_s = [f"{self.in_flight} of {self._window.size} in flight"], self._loop.time()
        if pace := self._pacer.state(now_s):
            words.append(f"paced at {pace}")
        if (closed_s := self._cooldown.open_at_s - now_s) > 0:
            words.append(f"waits {closed_s:.0f} s for quota")
        return ", ".join(words)

    def __repr__(self) -> str:
        """The state, for logs."""
        return f"Limiter({self.state})"

    @property
    def load(self) -> float:
        """Requests in flight and in the queue, as a multiple of the window."""
        return (self.in_flight + len(self._line)) / self._window.size

    def slot(self, tokens: float = 0.0) -> Slot:
        """A slot to hold with ``async with`` while a request is in flight.

        Args:
            tokens: What the request is charged to a quota of tokens.
        """
        return Slot(self, tokens)

    async def pause(self, wait_s: float) -> None:
        """Wait, unless the run stops meanwhile.

        Raises:
            StopRunError: The run is stopped.
        """
        if not self.stopped_by:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._stopped.wait()
        if self.stopped_by:
            raise self.stopped_by

    def answered(self) -> None:
        """The deployment served a request: the series of refusals, if there was one, is over."""
        self._cooldown.answered()
        self._breaker.answered()
        self._window.answered()

    def attempt_failed(self, reason: str) -> None:
        """A request got no usable reply.

        Raises:
            BreakerError: Many did, and the deployment has not answered one request of this run.
        """
        self._stop_if(self._breaker.attempt_failed(reason, self._loop.time()))

    def rejected(self, reason: str) -> None:
        """The deployment rejected a row for a reason that is none of those known to be a row's own.

        Raises:
            BreakerError: So it did with many, one after the other.
        """
        self._cooldown.answered()
        self._window.answered()
        self._stop_if(self._breaker.row_failed(reason))

    def row_failed(self, reason: str) -> None:
        """A row used up its attempts.

        Raises:
            BreakerError: Many rows did, one after the other, and the deployment answered none meanwhile.
        """
        self._stop_if(self._breaker.row_failed(reason))

    def timed_out(self, slot: Slot) -> None:
        """A request got no reply in time: the deployment may have more in flight than it can bear."""
        self._window.timed_out(slot.start.at_s, self._loop.time())

    def rate_limited(self, retry_after_s: float | None, slot: Slot | None = None) -> None:
        """The deployment answered 429: no request starts before it may serve again.

        Args:
            retry_after_s: Seconds it asked to wait; without, waits double from one second to a minute.
            slot: The refused request's, when there is one.

        Raises:
            ParkedError: The wait is longer than ``max_wait_s``.
        """
        now_s = self._loop.time()
        try:
            is_news = self._cooldown.refused(now_s, slot.start.at_s if slot else None, retry_after_s)
        except ParkedError as error:
            self.stop(error)
            raise
        if slot:
            self._pacer.refused(slot.start, now_s, self._cooldown.open_at_s, is_news=is_news)

    def stop(self, error: StopRunError) -> None:
        """Let no further request start; the first reason given is the one that is reported."""
        self.stopped_by = self.stopped_by or error
        self._stopped.set()
        while self._line:
            turn = self._line.popleft().turn
            if turn and not turn.done():
                turn.set_exception(self.stopped_by)

    def enter(self, slot: Slot) -> bool:
        """Start a request, if none waits and it may start now; else it joins the line.

        Raises:
            StopRunError: The run is stopped.
        """
        if self.stopped_by:
            raise self.stopped_by
        if not self._line and self.in_flight < self._window.size:
            now_s = self._loop.time()
            if self._next_s() <= now_s:
                self._start(slot, now_s)
                return True
        slot.turn = self._loop.create_future()
        self._line.append(slot)
        self._start_next()
        return False

    def confirm(self) -> None:
        """Take a slot back if the run was stopped between its turn and now.

        Raises:
            StopRunError: It was.
        """
        if self.stopped_by:
            self.leave()
            raise self.stopped_by

    def observe(self, slot: Slot, headers: RateLimitHeaders) -> None:
        """Take in the rate limit headers of a slot's reply."""
        self._pacer.observe(slot.start, headers, self._loop.time())
        if self._line:
            self._start_next()

    def leave(self) -> None:
        """A request ended."""
        self.in_flight -= 1
        if self._line:
            self._start_next()

    def _start_next(self) -> None:
        """Start what may start; see that somebody looks again when time is all that is missing."""
        while self._line and self.in_flight < self._window.size:
            now_s = self._loop.time()
            next_s = self._next_s()
            if next_s > now_s:
                self._look_again(next_s)
                return
            slot = self._line.popleft()
            if slot.turn and not slot.turn.done():
                self._start(slot, now_s)
                slot.turn.set_result(None)

    def _next_s(self) -> float:
        return max(self._cooldown.open_at_s, self._pacer.next_s)

    def _start(self, slot: Slot, now_s: float) -> None:
        if self._window.is_small and not self.in_flight:
            self._loop.call_later(_LONGEST_SMALL_S, self._open)
        self.in_flight += 1
        self._pacer.start(slot.start, now_s)

    def _look_again(self, at_s: float) -> None:
        if self._alarm:
            if self._alarm.when() <= at_s:
                return
            self._alarm.cancel()
        self._alarm = self._loop.call_at(at_s, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._pacer.log_pace()
        self._start_next()

    def _open(self) -> None:
        self._window.open()
        self._start_next()

    def _stop_if(self, error: BreakerError | None) -> None:
        if error:
            self.stop(error)
            raise error
