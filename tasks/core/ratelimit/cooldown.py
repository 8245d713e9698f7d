"""The cooldown that all rows share after a 429: until when no request starts, and when waiting is too long.

A round of refusals is one fact: those that were in flight together report the same, and count once.
"""

import math
import random

from tasks.core.errors import ParkedError

_FIRST_WAIT_S = 1.0
_LONGEST_OWN_WAIT_S = 60.0
_SHORTEST_WAIT_S = 0.1
_SPREAD = 0.05


class Cooldown:
    """When requests may start again.

    Args:
        max_wait_s: The longest wait for quota to sit out: as asked for by one reply, or summed up over a
            series of refusals without a reply between them.
    """

    def __init__(self, max_wait_s: float) -> None:
        self.open_at_s = -math.inf
        self._max_wait_s = max_wait_s
        self._refused_since_s: float | None = None
        self._waits = 0

    def answered(self) -> None:
        """The deployment served a request: the series of refusals, if there was one, is over."""
        self._refused_since_s = None
        self._waits = 0

    def refused(self, now_s: float, sent_s: float | None, retry_after_s: float | None) -> bool:
        """The deployment said 429.

        Args:
            now_s: The loop's time.
            sent_s: When the refused request started; None when it is unknown.
            retry_after_s: Seconds it asked to wait; without, waits double from one second to a minute.

        Returns:
            Whether this is news: the first refusal since the cooldown opened last.

        Raises:
            ParkedError: The wait is longer than ``max_wait_s``.
        """
        if self._refused_since_s is None:
            self._refused_since_s = now_s
        refused_s = now_s - self._refused_since_s
        wait_s = self._own_wait_s(now_s) if retry_after_s is None else max(retry_after_s, _SHORTEST_WAIT_S)
        if max(wait_s, refused_s) > self._max_wait_s:
            raise _parked(wait_s, refused_s)
        is_news = now_s >= self.open_at_s and (sent_s is None or sent_s >= self.open_at_s)
        self._waits += is_news
        if is_news or retry_after_s is not None:
            # A little spread, so that several processes do not knock in the same millisecond.
            spread_s = wait_s * random.uniform(1.0, 1.0 + _SPREAD)  # noqa: S311 - no secret
            self.open_at_s = max(self.open_at_s, now_s + spread_s)
        return is_news

    def _own_wait_s(self, now_s: float) -> float:
        """How long to wait when the deployment did not say: the round's wait, longer each round."""
        if now_s < self.open_at_s:
            return self.open_at_s - now_s
        return min(_FIRST_WAIT_S * 2.0**self._waits, _LONGEST_OWN_WAIT_S)


def _parked(wait_s: float, refused_s: float) -> ParkedError:
    asked = (
        f"asks to wait {wait_s:.0f} s"
        if wait_s > refused_s
        else f"has refused everything for {refused_s:.0f} s"
    )
    message = f"HTTP 429: the deployment {asked}. Run the same command again later, or raise max_wait_s."
    return ParkedError(message, wait_s=wait_s)
