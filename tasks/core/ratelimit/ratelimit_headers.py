"""Parses rate limit headers, and passes them from the HTTP client to the code that sent the request.

The reply object of LlamaIndex has no headers. So the sender of a request sets a listener in its own
context, and the HTTP client, which runs in that context, calls it. Nothing here decides how fast to go.
"""

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass

_MINUTE_S = 60.0
_FIELDS = {
    b"x-ratelimit-limit-requests": "requests_per_s",
    b"x-ratelimit-remaining-requests": "requests_left",
    b"x-ratelimit-limit-tokens": "tokens_per_s",
    b"x-ratelimit-remaining-tokens": "tokens_left",
}


@dataclass(slots=True)
class RateLimitHeaders:
    """The quota as one reply reported it; None for what it did not report.

    Attributes:
        requests_per_s: Requests that flow in per second, from the limit per minute.
        requests_left: Requests that would have passed after this one.
        tokens_per_s: Tokens that flow in per second.
        tokens_left: Tokens that would have passed after this one.
    """

    requests_per_s: float | None = None
    requests_left: float | None = None
    tokens_per_s: float | None = None
    tokens_left: float | None = None


listener: ContextVar[Callable[[RateLimitHeaders], object] | None] = ContextVar("listener", default=None)
"""Called with the rate limit headers of the replies to the requests of this context."""


def emit(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Pass the headers of a reply to the listener of this context, if there is one."""
    if listen := listener.get():
        listen(read(headers))


def read(headers: Iterable[tuple[bytes, bytes]]) -> RateLimitHeaders:
    """Parse the headers; values that are no numbers, and Azure's -1 for unknown, are ignored."""
    found = RateLimitHeaders()
    for name, value in headers:
        if field := _FIELDS.get(name.lower()):
            number = _number(value)
            if number is None:
                continue
            per_minute = field.endswith("_per_s")
            if number > 0 or not per_minute:
                setattr(found, field, number / _MINUTE_S if per_minute else number)
    return found


def _number(value: bytes) -> float | None:
    return float(value) if value.isdigit() else None
