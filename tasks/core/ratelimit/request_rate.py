"""The paces of a deployment's two quotas, requests and tokens: a request waits for the slower.

Says once when a quota begins to set the pace, and again when that is another pace. What a pace does is in
``pacing``.
"""

import logging
from dataclasses import dataclass

from tasks.core.ratelimit.quota_rate import QuotaRate
from tasks.core.ratelimit.ratelimit_headers import RateLimitHeaders

logger = logging.getLogger(__name__)

_MINUTE_S = 60.0
_WORTH_LOGGING = 1.5
_SHORTEST_S = 0.001
"""Between two requests: a quota that lets more pass is not what sets the pace."""


@dataclass(slots=True)
class RequestStart:
    """A request's place in the order of starts; what is learned from its reply depends on it.

    Attributes:
        tokens: What the request is charged.
        at_s: When it started, in the loop's time.
        requests_before: Requests that started before it.
        tokens_before: Tokens they were charged.
        headers: The rate limit headers of its reply.
    """

    tokens: float
    at_s: float = 0.0
    requests_before: float = 0.0
    tokens_before: float = 0.0
    headers: RateLimitHeaders | None = None


class RequestRate:
    """When the next request may start.

    Args:
        requests_per_minute: The deployment's quota, when it is known.
        tokens_per_minute: The same, in tokens.
        now_s: The event loop's time.
    """

    def __init__(
        self, requests_per_minute: float | None, tokens_per_minute: float | None, now_s: float
    ) -> None:
        self._requests = QuotaRate(_per_s(requests_per_minute), slow_start=True, now_s=now_s)
        self._tokens = QuotaRate(_per_s(tokens_per_minute), slow_start=False, now_s=now_s)
        self._last_observed = -1.0
        self._logged_per_s = 0.0

    @property
    def next_s(self) -> float:
        """When the next request may start."""
        return max(self._requests.next_s, self._tokens.next_s)

    def state(self, now_s: float) -> str:
        """The pace that holds requests up, for people; empty when none does."""
        pace, unit = self._slower()
        return _words(pace, unit) if pace.is_known and pace.next_s > now_s else ""

    def start(self, start: RequestStart, now_s: float) -> None:
        """A request starts now."""
        start.at_s = now_s
        start.requests_before, start.tokens_before = self._requests.sent, self._tokens.sent
        self._requests.start(now_s, 1.0)
        self._tokens.start(now_s, start.tokens)

    def observe(self, start: RequestStart, headers: RateLimitHeaders, now_s: float) -> None:
        """Take in the rate limit headers of a request's reply."""
        start.headers = headers
        if start.requests_before > self._last_observed:  # else a later request's reply is newer
            self._last_observed = start.requests_before
            self._requests.observe(headers.requests_per_s, headers.requests_left, now_s)
            self._tokens.observe(headers.tokens_per_s, headers.tokens_left, now_s)

    def refused(self, start: RequestStart, now_s: float, reopens_s: float, *, is_news: bool) -> None:
        """A request was answered 429; the quota it was for takes note.

        Args:
            start: The request's start.
            now_s: The loop's time.
            reopens_s: When requests may start again.
            is_news: It is the first since requests could start.
        """
        if _is_for_tokens(start):
            pace, cost, before = self._tokens, start.tokens, start.tokens_before
        else:
            pace, cost, before = self._requests, 1.0, start.requests_before
        pace.refused(cost)
        if is_news:
            pace.used_up(before, start.at_s, now_s, reopens_s)

    def log_pace(self) -> None:
        """Log the pace that holds requests up, if it was not logged yet."""
        pace, unit = self._slower()
        if not pace.is_known or pace.rate * _SHORTEST_S > pace.sent / max(self._requests.sent, 1.0):
            return
        if not self._logged_per_s / _WORTH_LOGGING < pace.rate < self._logged_per_s * _WORTH_LOGGING:
            self._logged_per_s = pace.rate
            logger.info("The deployment's quota sets the pace: %s", _words(pace, unit))

    def _slower(self) -> tuple[QuotaRate, str]:
        if self._tokens.next_s > self._requests.next_s:
            return self._tokens, "tokens"
        return self._requests, "requests"


def _is_for_tokens(start: RequestStart) -> bool:
    """Whether the headers say that it was tokens that were missing; requests, when they say nothing."""
    headers = start.headers
    if headers is None or headers.tokens_left is None or headers.tokens_left >= start.tokens:
        return False
    return headers.requests_left is None or headers.requests_left >= 1


def _words(pace: QuotaRate, unit: str) -> str:
    return f"{pace.rate * _MINUTE_S:.0f} {unit}/min"


def _per_s(per_minute: float | None) -> float | None:
    return None if per_minute is None else per_minute / _MINUTE_S
