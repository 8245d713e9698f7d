"""Slot: held by the sender of a request while the request is in flight.

The slot reports the rate limit headers of the reply, and how the request ended, to the limiter, which decides
when the next request starts.
"""

import asyncio
from types import TracebackType
from typing import Protocol, Self

from tasks.core.errors import RateLimitError, StopRunError
from tasks.core.ratelimit.ratelimit_headers import RateLimitHeaders
from tasks.core.ratelimit.request_rate import RequestStart


class SlotOwner(Protocol):
    """The part of the limiter that a slot uses."""

    def enter(self, slot: "Slot") -> bool:
        """Start a request now and return True, or add it to the queue and return False."""

    def confirm(self) -> None:
        """Take the slot back and raise if the limiter was stopped after the request left the queue."""

    def leave(self) -> None:
        """Count a request that ended."""

    def observe(self, slot: "Slot", headers: RateLimitHeaders) -> None:
        """Adjust the request rate to the rate limit headers of a slot's reply."""

    def rate_limited(self, retry_after_s: float | None, slot: "Slot | None" = None) -> None:
        """Count a request that was answered 429."""

    def stop(self, error: StopRunError) -> None:
        """Start no further request."""


class Slot:
    """Permission for one request to be in flight; an async context manager, to be used once.

    Attributes:
        start: When the request started, and the rate limit headers of its reply.
        turn: Set when the request leaves the queue; None if it did not have to wait.
    """

    __slots__ = ("_limiter", "start", "turn")

    def __init__(self, limiter: SlotOwner, tokens: float) -> None:
        self._limiter = limiter
        self.start = RequestStart(tokens)
        self.turn: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        """Wait until the request may start.

        Raises:
            StopRunError: The limiter is stopped.
        """
        if not self._limiter.enter(self) and self.turn:
            await self._wait(self.turn)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Report how the request ended, then free the slot.

        Raises:
            ParkedError: The deployment requests a wait of more than ``max_wait_s``.
        """
        try:
            if isinstance(error, RateLimitError):
                self._limiter.rate_limited(error.retry_after_s, self)
            elif isinstance(error, StopRunError):
                self._limiter.stop(error)
        finally:
            self._limiter.leave()

    def observe(self, headers: RateLimitHeaders | None) -> None:
        """Report the rate limit headers of the request's reply to the limiter, if there are any."""
        if headers:
            self._limiter.observe(self, headers)

    async def _wait(self, turn: "asyncio.Future[None]") -> None:
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and not turn.exception():
                # Cancelled after it left the queue, when it already counts as in flight.
                self._limiter.leave()
            raise
        self._limiter.confirm()
