"""When the next request may start: the slower of the rates of a deployment's two quotas, requests and tokens.

Logs once when a quota limits the rate, and again when the rate has changed a lot. ``quota_rate`` holds the
rate of one quota.
"""

import logging
from dataclasses import dataclass

from tasks.core.ratelimit.quota_rate import QuotaRate
from tasks.core.ratelimit.ratelimit_headers import RateLimitHeaders

logger = logging.getLogger(__name__)

_MINUTE_S = 60.0
_LOGGED_CHANGE = 1.5
"""Factor by which the rate must change to be logged again. Less repeats the line while the rate rises between
refusals; more does not report a quota that was halved. Chosen, not measured."""
_LIMITING_INTERVAL_S = 0.001
"""Mean interval between requests below which a quota is not reported as limiting the rate. One process sends
at most some 1,000 requests/s, so a quota that admits more does not limit it."""


@dataclass(slots=True)
class RequestStart:
    """When a request started and what was sent before it; needed to learn from its reply.

    Attributes:
        tokens: What the request is charged to a quota of tokens.
        at_s: When it started, in the event loop's time.
        requests_before: Requests that started before it.
        tokens_before: Tokens that these were charged.
        headers: The rate limit headers of its reply.
    """

    tokens: float
    at_s: float = 0.0
    requests_before: float = 0.0
    tokens_before: float = 0.0
    headers: RateLimitHeaders | None = None


class RequestRate:
    """When the next request may start under both quotas.

    Args:
        requests_per_minute: The deployment's quota, if it is known.
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

    def description(self, now_s: float) -> str:
        """The rate that requests wait for now, for people; empty if they wait for none."""
        quota, unit = self._slower()
        return _in_words(quota, unit) if quota.is_known and quota.next_s > now_s else ""

    def start(self, start: RequestStart, now_s: float) -> None:
        """Count a request that starts now."""
        start.at_s = now_s
        start.requests_before, start.tokens_before = self._requests.sent, self._tokens.sent
        self._requests.start(now_s, 1.0)
        self._tokens.start(now_s, start.tokens)

    def observe(self, start: RequestStart, headers: RateLimitHeaders, now_s: float) -> None:
        """Adjust the rates to the rate limit headers of a request's reply."""
        start.headers = headers
        if start.requests_before > self._last_observed:  # else the reply to a later request was newer
            self._last_observed = start.requests_before
            self._requests.observe(headers.requests_per_s, headers.requests_left, now_s)
            self._tokens.observe(headers.tokens_per_s, headers.tokens_left, now_s)

    def refused(self, start: RequestStart, now_s: float, resume_s: float, *, starts_episode: bool) -> None:
        """Count a request that was answered 429, and lower the rate of the quota that refused it.

        Args:
            start: The request's start.
            now_s: The event loop's time.
            resume_s: When requests may start again.
            starts_episode: It is the first refusal since requests could start; only this one lowers the rate.
        """
        if _is_for_tokens(start):
            quota, cost, before = self._tokens, start.tokens, start.tokens_before
        else:
            quota, cost, before = self._requests, 1.0, start.requests_before
        quota.count_refused(cost)
        if starts_episode:
            quota.back_off(before, start.at_s, now_s, resume_s)

    def log_change(self) -> None:
        """Log the rate that requests wait for, if it is new or has changed a lot."""
        quota, unit = self._slower()
        mean_cost = quota.sent / max(self._requests.sent, 1.0)
        if not quota.is_known or quota.rate * _LIMITING_INTERVAL_S > mean_cost:
            return
        if not self._logged_per_s / _LOGGED_CHANGE < quota.rate < self._logged_per_s * _LOGGED_CHANGE:
            self._logged_per_s = quota.rate
            logger.info("The deployment's quota limits the request rate to %s", _in_words(quota, unit))

    def _slower(self) -> tuple[QuotaRate, str]:
        if self._tokens.next_s > self._requests.next_s:
            return self._tokens, "tokens"
        return self._requests, "requests"


def _is_for_tokens(start: RequestStart) -> bool:
    """Whether a refused request exceeded the quota of tokens by its headers; else it is that of requests."""
    headers = start.headers
    if headers is None or headers.tokens_left is None or headers.tokens_left >= start.tokens:
        return False
    return headers.requests_left is None or headers.requests_left >= 1


def _in_words(quota: QuotaRate, unit: str) -> str:
    return f"{quota.rate * _MINUTE_S:.0f} {unit}/min"


def _per_s(per_minute: float | None) -> float | None:
    return None if per_minute is None else per_minute / _MINUTE_S
