"""Estimates of a quota's rate: from the headers of replies, and from refusals."""

_SCARCE_S = 0.3
_SLOWEST, _FASTEST = 0.99, 1.05
_BOOST_PER_S = 0.03
_NEARLY_ALL, _HALF = 0.75, 0.5


class Headroom:
    """What is left of one quota, as of the last reply.

    Attributes:
        factor: How fast to go, in multiples of the reported rate.
        is_scarce: Hardly anything is left.
    """

    def __init__(self) -> None:
        self.factor = 1.0
        self.is_scarce = False
        self._most_left = 0.0
        self._boost = 1.0
        self._observed_s: float | None = None

    def observe(self, left: float, per_s: float, now_s: float, *, busy: bool) -> None:
        """Take in what is left now.

        Args:
            left: What could be used at once.
            per_s: The reported rate.
            now_s: The loop's time.
            busy: Requests wait for the pace.
        """
        self._most_left = max(self._most_left, left)
        seconds = 0.0 if self._observed_s is None else min(now_s - self._observed_s, 1.0)
        self._observed_s = now_s
        if left < _HALF * self._most_left:
            self._boost = 1.0
        elif busy and left >= _NEARLY_ALL * self._most_left:
            self._boost *= 1.0 + _BOOST_PER_S * seconds
        # Where it was never more, the header does not show what is left.
        self.is_scarce = left < _SCARCE_S * per_s <= self._most_left
        self.factor = self._boost * (_SLOWEST + (_FASTEST - _SLOWEST) * min(left / per_s, 1.0))


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
