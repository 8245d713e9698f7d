"""The rate of a quota, learned from refusals.

Between two moments at which the quota was used up, what was served is what flowed in. Requests are whole, so
a stretch with few of them says little: stretches are added up, older ones fade, and one that does not fit
says that the quota has changed. Units are requests or tokens, as the owner counts them.
"""

_REMEMBERED = 200.0  # requests
_EXPECTED = 20.0  # requests that would have to say otherwise
_ODD = 0.2
_ODD_REQUESTS = 1.5


class LearnedRate:
    """What flowed in between moments at which the quota was used up."""

    def __init__(self) -> None:
        self.rate: float | None = None
        self.doubt = 1.0
        """The part of the rate by which it may be wrong."""
        self._served = self._seconds = 0.0

    def expect(self, rate: float, cost: float) -> None:
        """Start from a rate that is likely, and not from nothing; without effect once there is a rate."""
        if self.rate is None:
            self._served, self._seconds = _EXPECTED * cost, _EXPECTED * cost / rate

    def used_up(self, served: float, seconds: float, cost: float) -> float:
        """Learn from one more stretch between two such moments; returns the rate.

        Args:
            served: What was served in it.
            seconds: How long it was.
            cost: What one request is charged.
        """
        if self.rate is not None and self._is_odd(served, self.rate * seconds, cost):
            self._served, self._seconds = cost, cost / self.rate
        fade = min(1.0, _REMEMBERED * cost / (self._served + served + cost))
        self._served = fade * self._served + served
        self._seconds = fade * self._seconds + seconds
        self.rate = max(self._served, cost / 2) / self._seconds
        self.doubt = cost / max(self._served, cost)
        return self.rate

    @staticmethod
    def _is_odd(served: float, expected: float, cost: float) -> bool:
        return abs(served - expected) > _ODD * expected + _ODD_REQUESTS * cost
