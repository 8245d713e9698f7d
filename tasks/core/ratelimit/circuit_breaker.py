"""When a run is hopeless: request after request fails, and none is answered.

Counts failures; the caller stops the run when there are too many.
"""

from tasks.core.errors import BreakerError

_MANY = 50
_LONGEST_OUTAGE_S = 10.0
"""A deployment that is away for less, as the run starts, is waited for."""


class CircuitBreaker:
    """Opens when nothing is answered.

    Args:
        max_concurrent: Requests in flight at most: as many may fail for one and the same reason.
    """

    def __init__(self, max_concurrent: int) -> None:
        self._failed_in_a_row = 0
        self._unanswered: int | None = 0
        self._failing_since_s: float | None = None
        self._most_failed = max(max_concurrent, _MANY)

    def answered(self) -> None:
        """The deployment served a request."""
        self._failed_in_a_row = 0
        self._unanswered = None

    def attempt_failed(self, reason: str, now_s: float) -> BreakerError | None:
        """A request got no usable reply; returns why to stop, if many did before the run's first answer."""
        if self._unanswered is None:
            return None
        self._failing_since_s = now_s if self._failing_since_s is None else self._failing_since_s
        self._unanswered += 1
        if self._unanswered < _MANY or now_s - self._failing_since_s < _LONGEST_OUTAGE_S:
            return None
        return _error(f"{self._unanswered} requests were sent and none was answered ({reason})")

    def row_failed(self, reason: str) -> BreakerError | None:
        """A row used up its attempts; returns why to stop, if many did and none was answered meanwhile."""
        self._failed_in_a_row += 1
        if self._failed_in_a_row < self._most_failed:
            return None
        return _error(f"the last {self._failed_in_a_row} rows failed and none was answered ({reason})")


def _error(what: str) -> BreakerError:
    message = (
        f"Stopped, {what}: check AZURE_OPENAI_ENDPOINT, the deployment and the network, then run the "
        "same command again."
    )
    return BreakerError(message)
