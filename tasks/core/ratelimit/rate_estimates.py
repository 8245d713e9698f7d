"""Two estimates of a quota's rate: from the headers of replies, and from refusals.

The constants were measured as those of ``quota_rate``. Amounts are requests or tokens.
"""

_SCARCE_S = 0.3
"""Hardly anything is left if it is less than the quota of this time. Less: processes that share a quota slow
down too late; at 0.05, 1.9% are refused with three processes (here 0.4%). More: quota is not used; at 1.0,
three processes use 0.995 (here 1.001)."""
_SLOWEST = 0.99
"""Factor on the reported rate when nothing is left. Less saves a reserve sooner; at 1.0 none is saved. 0.9
and 1.0 changed the used part by at most 0.4%."""
_FASTEST = 1.05
"""Factor on the reported rate when the quota of a second or more is left. Less leaves it unused; at 1.0, 1.04
of 1,200 requests/min are used in two minutes (here 1.08). 1.3 made no difference."""
_BOOST_PER_S = 0.03
"""Growth of the factor per second while nearly all of the quota stays left, as the reported rate is then too
low. Less finds the real rate later; more exceeds it where the header is only late. A rate reported as 10/s
instead of 20/s is corrected after 48 s; at 0.003, not within two minutes."""
_NEARLY_ALL = 0.75
"""The quota counts as nearly unused above this part of the most that was ever left. Less boosts a rate that
is almost right; more corrects a wrong one later. 0.5 and 0.95 made no difference."""
_HALF = 0.5
"""The boost ends when less than this part of the most that was ever left is left. More ends it too early; at
0.74, 1.067 of 1,200 requests/min are used in two minutes (here 1.080). Less ends it late; at 0.1, 0.997 with
a bucket of 1 s (here 1.005)."""
_REMEMBERED_REQUESTS = 200.0
"""Requests after which older measurements fade. Fewer follows a change sooner and is less precise: at 20,
2.7% of 40,000 tokens/min are refused (here 1.6%). 2,000 made no difference to a constant quota."""
_EXPECTED_REQUESTS = 20.0
"""Weight of a reported rate, in requests that were served at it. More trusts the header longer. At 2, 0.987
of 10 requests/min are used; at 200, 0.993 (here 0.990)."""
_ODD = 0.2
"""If a measurement differs by more than this part of the expected amount, plus ``_ODD_REQUESTS``, the quota
has changed. Less discards good measurements; more follows a change later: at 1.0, 2.1% are refused when the
quota falls to a tenth and comes back (here 1.8%). 0.02 made no difference."""
_ODD_REQUESTS = 1.5
"""A measurement over a few requests may be wrong by one request. Less discards good measurements; more
follows a change later. 0.2 and 10 made no difference."""


class Headroom:
    """What is left of one quota by the headers, and how much faster or slower than the reported rate to send.

    With nearly nothing left, a little slower, so that some is saved. With a second's worth left, a little
    faster, to use it. When nearly all is left for long although requests wait, the reported rate is not the
    real one (Azure reports some limits per ten seconds): faster and faster.

    Attributes:
        factor: The rate to send at, as a multiple of the reported rate.
        is_scarce: Hardly anything is left.
    """

    def __init__(self) -> None:
        self.factor = 1.0
        self.is_scarce = False
        self._most_left = 0.0
        self._boost = 1.0
        self._observed_s: float | None = None

    def observe(self, left: float, per_s: float, now_s: float, *, busy: bool) -> None:
        """Update the factor from the headers of a reply.

        Args:
            left: What can be used at once.
            per_s: The reported rate.
            now_s: The event loop's time.
            busy: Requests wait for the rate.
        """
        self._most_left = max(self._most_left, left)
        seconds = 0.0 if self._observed_s is None else min(now_s - self._observed_s, 1.0)
        self._observed_s = now_s
        if left < _HALF * self._most_left:
            self._boost = 1.0
        elif busy and left >= _NEARLY_ALL * self._most_left:
            self._boost *= 1.0 + _BOOST_PER_S * seconds
        # If it was never more than this, the header does not report what is left.
        self.is_scarce = left < _SCARCE_S * per_s <= self._most_left
        self.factor = self._boost * (_SLOWEST + (_FASTEST - _SLOWEST) * min(left / per_s, 1.0))


class LearnedRate:
    """The rate that was served between moments at which the quota was used up.

    The amount served between two such moments is the quota of that time. Measurements are summed up, older
    ones fade, and one that differs much from the expected amount shows that the quota has changed.

    Attributes:
        rate: Amount per second; None until something is measured.
        uncertainty: The part of the rate by which it may be wrong.
    """

    def __init__(self) -> None:
        self.rate: float | None = None
        self.uncertainty = 1.0
        self._served = self._seconds = 0.0

    def expect(self, rate: float, cost: float) -> None:
        """Start from this rate; without effect once a rate was measured."""
        if self.rate is None:
            self._served, self._seconds = _EXPECTED_REQUESTS * cost, _EXPECTED_REQUESTS * cost / rate

    def add(self, served: float, seconds: float, cost: float) -> float:
        """Add a measurement between two such moments.

        Args:
            served: The amount that was served.
            seconds: The time between the two.
            cost: The amount that one request is charged.

        Returns:
            The rate.
        """
        if self.rate is not None and self._is_odd(served, self.rate * seconds, cost):
            self._served, self._seconds = cost, cost / self.rate
        fade = min(1.0, _REMEMBERED_REQUESTS * cost / (self._served + served + cost))
        self._served = fade * self._served + served
        self._seconds = fade * self._seconds + seconds
        self.rate = max(self._served, cost / 2) / self._seconds
        self.uncertainty = cost / max(self._served, cost)
        return self.rate

    @staticmethod
    def _is_odd(served: float, expected: float, cost: float) -> bool:
        return abs(served - expected) > _ODD * expected + _ODD_REQUESTS * cost
