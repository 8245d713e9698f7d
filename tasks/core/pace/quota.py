"""What a reply's headers tell of the deployment's quota, and the way from the HTTP client to who listens.

The reply object of LlamaIndex has no headers. So whoever sends a request listens for them in its own context,
and the HTTP client, which runs in that context, lets it hear. Nothing here decides how fast to go.
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
class Told:
    """The quota as one reply told it; None for what it did not tell.

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


listener: ContextVar[Callable[[Told], object] | None] = ContextVar("listener", default=None)
"""Who wants to hear what the replies to the requests of this context tell."""


def let_hear(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Tell the listener of this context, if there is one, what the headers of a reply say of the quota."""
    if hear := listener.get():
        hear(read(headers))


def read(headers: Iterable[tuple[bytes, bytes]]) -> Told:
    """The quota that headers tell; numbers that are none, and Azure's -1 for unknown, tell nothing."""
    told = Told()
    for name, value in headers:
        if field := _FIELDS.get(name.lower()):
            number = _number(value)
            if number is None:
                continue
            per_minute = field.endswith("_per_s")
            if number > 0 or not per_minute:
                setattr(told, field, number / _MINUTE_S if per_minute else number)
    return told


def _number(value: bytes) -> float | None:
    return float(value) if value.isdigit() else None
