"""Cooldown after a 429: until when no request starts, and when the wait is too long and the run stops.

All rows share it. Refusals of requests that were in flight together count once.
"""

import math
import random

from tasks.core.errors import ParkedError

_FIRST_WAIT_S = 1.0
"""First wait after a 429 that requests none. Less is refused more often: at 0.2 s, 2.5%; more leaves quota
unused, and at 5 s 2.2% are refused (here 1.9%). Measured with the simulated deployment of ``test_pacing``,
without Retry-After."""
_MAX_BACKOFF_S = 60.0
"""Longest wait after a 429 that requests none. Quotas are per minute, so after a minute some of it is
available again. Less sends more requests that are refused; more delays the recovery. 10 s made no difference
in the simulation."""
_MIN_WAIT_S = 0.1
"""Shortest wait. A deployment may send Retry-After: 0: without a minimum, each refusal would be followed by a
request at once; with it, at most ten requests/s are refused."""
_JITTER = 0.05
"""Longest random addition to a wait, as a part of it. Without it, several processes send again in the same
millisecond; more wastes quota. Chosen, not measured: 0 and 0.5 made no difference to one process."""


class Cooldown:
    """When requests may start again after a refusal.

    Args:
        max_wait_s: The longest wait for quota: the wait that one reply requests, or the time since the first
            refusal of a series without an answer.

    Attributes:
        ends_s: When requests may start again.
    """

    def __init__(self, max_wait_s: float) -> None:
        self.ends_s = -math.inf
        self._max_wait_s = max_wait_s
        self._refused_since_s: float | None = None
        self._episodes = 0

    def answered(self) -> None:
        """Count an answered request; it ends a series of refusals."""
        self._refused_since_s = None
        self._episodes = 0

    def refused(self, now_s: float, sent_s: float | None, retry_after_s: float | None) -> bool:
        """Count a refusal, and start or extend the cooldown.

        Args:
            now_s: The event loop's time.
            sent_s: When the refused request started; None if it is unknown.
            retry_after_s: The wait that it requests; without, waits double from a second to a minute.

        Returns:
            Whether it starts an episode: the first refusal of a request that started after the last cooldown.

        Raises:
            ParkedError: The wait is longer than ``max_wait_s``.
        """
        if self._refused_since_s is None:
            self._refused_since_s = now_s
        refused_s = now_s - self._refused_since_s
        wait_s = self._backoff_s(now_s) if retry_after_s is None else max(retry_after_s, _MIN_WAIT_S)
        if max(wait_s, refused_s) > self._max_wait_s:
            raise _parked(wait_s, refused_s)
        starts_episode = now_s >= self.ends_s and (sent_s is None or sent_s >= self.ends_s)
        self._episodes += starts_episode
        if starts_episode or retry_after_s is not None:
            jittered_s = wait_s * random.uniform(1.0, 1.0 + _JITTER)  # noqa: S311 - no secret
            self.ends_s = max(self.ends_s, now_s + jittered_s)
        return starts_episode

    def _backoff_s(self, now_s: float) -> float:
        """The wait if the reply requests none: the rest of the cooldown, else longer in each episode."""
        if now_s < self.ends_s:
            return self.ends_s - now_s
        return min(_FIRST_WAIT_S * 2.0**self._episodes, _MAX_BACKOFF_S)


def _parked(wait_s: float, refused_s: float) -> ParkedError:
    reason = (
        f"asks to wait {wait_s:.0f} s"
        if wait_s > refused_s
        else f"has refused everything for {refused_s:.0f} s"
    )
    message = f"HTTP 429: the deployment {reason}. Run the same command again later, or raise max_wait_s."
    return ParkedError(message, wait_s=wait_s)
