"""The quota: a bucket of requests and a bucket of tokens, refilled evenly, checked on arrival.

Here: how much may pass now, how long to wait otherwise, and the rate-limit headers that tell it. Not here:
the 429 itself (`faults.py`). Invariant: over any time t, no more than `rate * (t + window)` passes, save
for one request larger than the whole bucket, which passes when the bucket is full and leaves it in debt.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

MINUTE_S: Final = 60.0
# What "no quota" is in numbers: far above what one machine can send, and still a number in the headers.
UNLIMITED_REQUESTS: Final = 10_000_000.0
UNLIMITED_TOKENS: Final = 100_000_000_000.0


class Bucket:
    """One quota per minute of which at most `window_s` seconds' worth can be saved up."""

    __slots__ = ("_capacity", "_clock", "_level", "_per_minute", "_seen_s")

    def __init__(
        self, per_minute: float, window_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start full.

        Args:
            per_minute: Units that flow in per minute.
            window_s: Seconds of inflow the bucket holds.
            clock: Seconds that only grow.
        """
        self._clock = clock
        self._seen_s = clock()
        self._level = math.inf
        self.resize(per_minute, window_s)

    def resize(self, per_minute: float, window_s: float) -> None:
        """Change the rate from now on; what is in the bucket stays, as far as the new size holds it."""
        if self._level != math.inf:
            self._refill()
        self._per_minute = per_minute
        self._capacity = max(1.0, per_minute * window_s / MINUTE_S)
        self._level = min(self._level, self._capacity)

    def _refill(self) -> None:
        now_s = self._clock()
        flown = (now_s - self._seen_s) * self._per_minute / MINUTE_S
        self._level = min(self._capacity, self._level + flown)
        self._seen_s = now_s

    def wait_s(self, amount: float) -> float:
        """Seconds until this amount may pass; 0 when it may pass now."""
        self._refill()
        missing = min(amount, self._capacity) - self._level
        return max(0.0, missing * MINUTE_S / self._per_minute)

    def take(self, amount: float) -> None:
        """Let this amount pass."""
        self._level -= amount

    @property
    def limit(self) -> int:
        """Whole units per minute."""
        return round(self._per_minute)

    @property
    def remaining(self) -> int:
        """Whole units that may pass now; never below 0."""
        return max(0, math.floor(self._level))


class Quota:
    """Requests and tokens together: a request passes both buckets or neither."""

    __slots__ = ("_requests", "_tokens")

    def __init__(
        self,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
        window_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with both buckets full; None is a quota that nobody reaches."""
        self._requests = Bucket(requests_per_minute or UNLIMITED_REQUESTS, window_s, clock)
        self._tokens = Bucket(tokens_per_minute or UNLIMITED_TOKENS, window_s, clock)

    def resize(
        self, requests_per_minute: float | None, tokens_per_minute: float | None, window_s: float
    ) -> None:
        """Change the rates from now on; what the buckets hold stays, as far as their new size holds it."""
        self._requests.resize(requests_per_minute or UNLIMITED_REQUESTS, window_s)
        self._tokens.resize(tokens_per_minute or UNLIMITED_TOKENS, window_s)

    def admit(self, tokens: int) -> float:
        """Charge one request of this many tokens, or tell how long to wait.

        Returns:
            0.0 when the request passed and was charged; else the seconds to wait, with nothing charged.
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
