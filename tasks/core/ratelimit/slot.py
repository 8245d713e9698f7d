"""One request's place among those in flight.

The sender of a request holds a slot while the request is in flight. The slot reports the rate limit headers
of the reply, and how the request ended, to the limiter, which decides when the next request starts.
"""

import asyncio
from types import TracebackType
from typing import Protocol, Self

from tasks.core.errors import RateLimitError, StopRunError
from tasks.core.ratelimit.pacer import Start
from tasks.core.ratelimit.ratelimit_headers import RateLimitHeaders


class SlotOwner(Protocol):
    """What a slot needs of the limiter."""

    def enter(self, slot: "Slot") -> bool:
        """Start a request now, or put it in line; returns which."""

    def confirm(self) -> None:
        """Raise, and take the slot back, if the run was stopped between its turn and now."""

    def leave(self) -> None:
        """A request ended."""

    def observe(self, slot: "Slot", headers: RateLimitHeaders) -> None:
        """Take in the rate limit headers of a slot's reply."""

    def rate_limited(self, retry_after_s: float | None, slot: "Slot | None" = None) -> None:
        """A slot's request was answered 429."""

    def stop(self, error: StopRunError) -> None:
        """No row would be served."""


class Slot:
    """One request's place among those in flight; an async context manager, for one use.

    Attributes:
        start: When the request started, and the rate limit headers of its reply.
        turn: Done when its turn has come, if it had to wait.
    """

    __slots__ = ("_limiter", "start", "turn")

    def __init__(self, limiter: SlotOwner, tokens: float) -> None:
        self._limiter = limiter
        self.start = Start(tokens)
        self.turn: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        """Wait for the turn.

        Raises:
            StopRunError: The run is stopped; no request may start.
        """
        if not self._limiter.enter(self) and self.turn:
            await self._wait(self.turn)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Make room for the next, once the limiter has what it needs to decide.

        Raises:
            ParkedError: The deployment asks for a wait too long to sit out.
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
                # Its turn had come, and it does not want it any more.
                self._limiter.leave()
            raise
        self._limiter.confirm()
