"""How many requests may be in flight: at most the ceiling, a few until the first reply, fewer after timeouts.

Quotas are not told by the window but by the pace (``pacing``). The first reply tells the quota, and what is
in flight before it may be too many already. A window narrows when the deployment lets requests hang, once per
episode, and widens again while replies come.
"""

FIRST = 8
"""Requests in flight until one is answered: what 40,000 tokens/min let pass at once, in usual rows."""

_NARROWER = 0.5
_WIDER_PER_ROUND = 1 / 8
_LEAST = 1.0


class Window:
    """Requests that may be in flight now.

    Args:
        ceiling: Requests in flight at most.
    """

    def __init__(self, ceiling: int) -> None:
        self.size = min(ceiling, FIRST)
        self._ceiling = ceiling
        self._width = float(ceiling)
        self._is_answered = False
        self._narrowed_s = 0.0

    def answered(self) -> None:
        """A reply came: an eighth wider once all that are in flight have one."""
        if self.size < self._ceiling:
            widened = self._width + _WIDER_PER_ROUND if self._is_answered else self._width
            self._is_answered = True
            self._width = min(widened, float(self._ceiling))
            self.size = int(self._width)

    def timed_out(self, sent_s: float, now_s: float) -> None:
        """No reply came in time: half as wide, once for all that were sent before it became narrower."""
        if sent_s >= self._narrowed_s:
            self._narrowed_s = now_s
            self._width = max(self._width * _NARROWER, _LEAST)
            self.size = min(self.size, int(self._width))
