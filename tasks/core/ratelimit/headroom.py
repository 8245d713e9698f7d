"""What is left of a quota by the headers, and how much faster or slower than the reported rate to go.

Nearly nothing left: a little slower, so that some gathers. A second's worth left: a little faster, to use
it. Nearly all of it left for long, though requests wait: the reported rate is not the real one (Azure reports
some limits per ten seconds), so faster and faster.
"""

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
