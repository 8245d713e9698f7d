"""Parses the rate limit headers of a reply. ``request_rate`` decides how fast to send."""

from collections.abc import Iterable
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
    """The quota as one reply reported it; None for a value that it did not report.

    Attributes:
        requests_per_s: The quota of requests per second; the header has it per minute.
        requests_left: Requests that are left after this one.
        tokens_per_s: The quota of tokens per second.
        tokens_left: Tokens that are left after this request.
    """

    requests_per_s: float | None = None
    requests_left: float | None = None
    tokens_per_s: float | None = None
    tokens_left: float | None = None


def parse(headers: Iterable[tuple[bytes, bytes]]) -> RateLimitHeaders:
    """Parse the headers; values that are not numbers, and Azure's -1 for unknown, are ignored."""
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
