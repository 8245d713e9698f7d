"""How many requests may be in flight: at most the ceiling, a few at first, fewer after timeouts.

Quotas are kept by the pace (``pacing``), not by the window. The first reply shows the quota, and what is
in flight before it may be too many already. A window narrows when the deployment lets requests hang, once per
episode, and widens again while replies come.
"""

INITIAL_SIZE = 8
"""Requests in flight at first: what 40,000 tokens/min let pass at once, in usual rows."""

_NARROWER = 0.5
_WIDER_PER_ROUND = 1 / 8
_LEAST = 1.0


class Window:
    """Requests that may be in flight now.

    Args:
        ceiling: Requests in flight at most.
        starts_small: A few are enough until one is answered, or until ``open``.

    Attributes:
        size: How many.
        is_small: It has not been opened yet.
    """

    def __init__(self, ceiling: int, *, starts_small: bool = False) -> None:
        self.is_small = starts_small and ceiling > INITIAL_SIZE
        self.size = INITIAL_SIZE if self.is_small else ceiling
        self._ceiling = ceiling
        self._width = float(ceiling)
        self._narrowed_s = 0.0

    def open(self) -> None:
        """Enough is known, or nothing will be soon."""
        if self.is_small:
            self.is_small, self.size = False, self._ceiling

    def answered(self) -> None:
        """A reply came: an eighth wider once all that are in flight have one."""
        self.open()
        if self.size < self._ceiling:
            self._width = min(self._width + _WIDER_PER_ROUND, float(self._ceiling))
            self.size = int(self._width)

    def timed_out(self, sent_s: float, now_s: float) -> None:
        """No reply came in time: half as wide, once for all that were sent before it became narrower."""
        if not self.is_small and sent_s >= self._narrowed_s:
            self._narrowed_s = now_s
            self._width = max(self._width * _NARROWER, _LEAST)
            self.size = int(self._width)
