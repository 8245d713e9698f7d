"""Quota of the local endpoint: two token buckets (requests and tokens) and Azure's rate-limit headers.

In any time t at most `rate * (t + window)` is admitted. One exception: a request larger than the whole bucket
is admitted when the bucket is full, and leaves the level below zero.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

MINUTE_S: Final = 60.0
UNLIMITED_REQUESTS: Final = 10_000_000.0
UNLIMITED_TOKENS: Final = 100_000_000_000.0
"""Used when there is no quota: far more than one machine can send, but finite for use in headers."""


class Bucket:
    """A token bucket: refilled at a rate per minute, it holds at most the refill of `window_s` seconds."""

    __slots__ = ("_capacity", "_clock", "_level", "_per_minute", "_seen_s")

    def __init__(
        self, per_minute: float, window_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Create a full bucket.

        Args:
            per_minute: Units added per minute.
            window_s: The bucket's capacity, in seconds of refill.
            clock: A monotonic clock, in seconds.
        """
        self._clock = clock
        self._seen_s = clock()
        self._level = math.inf
        self.resize(per_minute, window_s)

    def resize(self, per_minute: float, window_s: float) -> None:
        """Change rate and capacity; the level is kept, up to the new capacity."""
        if self._level != math.inf:
            self._refill()
        self._per_minute = per_minute
        self._capacity = max(1.0, per_minute * window_s / MINUTE_S)
        self._level = min(self._level, self._capacity)

    def _refill(self) -> None:
        now_s = self._clock()
        added = (now_s - self._seen_s) * self._per_minute / MINUTE_S
        self._level = min(self._capacity, self._level + added)
        self._seen_s = now_s

    def wait_s(self, amount: float) -> float:
        """Seconds until this amount is admitted; 0 when it is admitted now."""
        self._refill()
        missing = min(amount, self._capacity) - self._level
        return max(0.0, missing * MINUTE_S / self._per_minute)

    def take(self, amount: float) -> None:
        """Subtract an admitted amount."""
        self._level -= amount

    @property
    def limit(self) -> int:
        """Whole units per minute."""
        return round(self._per_minute)

    @property
    def remaining(self) -> int:
        """Whole units available now; never below 0."""
        return max(0, math.floor(self._level))


class Quota:
    """Requests and tokens together: a request is admitted by both buckets or by neither."""

    __slots__ = ("_requests", "_tokens")

    def __init__(
        self,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
        window_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create two full buckets; None means unlimited."""
        self._requests = Bucket(requests_per_minute or UNLIMITED_REQUESTS, window_s, clock)
        self._tokens = Bucket(tokens_per_minute or UNLIMITED_TOKENS, window_s, clock)

    def resize(
        self, requests_per_minute: float | None, tokens_per_minute: float | None, window_s: float
    ) -> None:
        """Change rates and capacities; the levels are kept, up to the new capacities."""
        self._requests.resize(requests_per_minute or UNLIMITED_REQUESTS, window_s)
        self._tokens.resize(tokens_per_minute or UNLIMITED_TOKENS, window_s)

    def admit(self, tokens: int) -> float:
        """Charge one request of this many tokens, or compute how long it has to wait.

        Returns:
            0.0 when the request was admitted and charged; else the seconds to wait, with nothing charged.
        """
        wait_s = max(self._requests.wait_s(1), self._tokens.wait_s(tokens))
        if wait_s == 0.0:
            self._requests.take(1)
            self._tokens.take(tokens)
        return wait_s

    def headers(self) -> dict[str, str]:
        """Azure's rate-limit headers as of the last request."""
        return {
            "x-ratelimit-limit-requests": str(self._requests.limit),
            "x-ratelimit-remaining-requests": str(self._requests.remaining),
            "x-ratelimit-limit-tokens": str(self._tokens.limit),
            "x-ratelimit-remaining-tokens": str(self._tokens.remaining),
        }
