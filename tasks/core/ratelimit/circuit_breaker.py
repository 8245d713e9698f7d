"""Circuit breaker: decides to stop after repeated failures without an answer between them.

Counts failures and returns the error; the limiter stops.
"""

from tasks.core.errors import BreakerError

_MIN_FAILURES = 50
"""Failures without an answer before the breaker opens, at least. Fewer stops at a short disturbance; more
sends, and may pay for, more requests that fail. Chosen, not measured."""
_STARTUP_OUTAGE_S = 10.0
"""How long failures before the first answer must last. Shorter stops at a deployment that restarts or a
network that is not up yet; longer delays the report of a wrong host name. Chosen, not measured."""


class CircuitBreaker:
    """Opens when many requests fail and none is answered.

    Args:
        max_concurrent: Requests in flight at most. All of them may fail for one reason, so at least as many
            rows must fail before the breaker opens.
    """

    def __init__(self, max_concurrent: int) -> None:
        self._failed_rows = 0
        self._failed_attempts: int | None = 0  # before the first answer; None after it
        self._failing_since_s: float | None = None
        self._max_failed_rows = max(max_concurrent, _MIN_FAILURES)

    def answered(self) -> None:
        """Count an answered request: the deployment works."""
        self._failed_rows = 0
        self._failed_attempts = None

    def attempt_failed(self, reason: str, now_s: float) -> BreakerError | None:
        """Count a request without a usable reply.

        Returns:
            The error to stop with, if many requests failed before the first answer.
        """
        if self._failed_attempts is None:
            return None
        self._failing_since_s = now_s if self._failing_since_s is None else self._failing_since_s
        self._failed_attempts += 1
        if self._failed_attempts < _MIN_FAILURES or now_s - self._failing_since_s < _STARTUP_OUTAGE_S:
            return None
        return _error(f"{self._failed_attempts} requests were sent and none was answered ({reason})")

    def row_failed(self, reason: str) -> BreakerError | None:
        """Count a row that used up its attempts.

        Returns:
            The error to stop with, if many rows did and no request was answered between them.
        """
        self._failed_rows += 1
        if self._failed_rows < self._max_failed_rows:
            return None
        return _error(f"the last {self._failed_rows} rows failed and none was answered ({reason})")


def _error(what: str) -> BreakerError:
    message = (
        f"Stopped, {what}: check AZURE_OPENAI_ENDPOINT, the deployment and the network, then run the "
        "same command again."
    )
    return BreakerError(message)
