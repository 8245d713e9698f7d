"""Window: how many requests may be in flight at once.

A few at first, all that the user allows once a reply has come, half after timeouts. The window does not keep
to the quota; ``request_rate`` does. It starts small since what is in flight before the first reply may exceed
a small quota.
"""

INITIAL_SIZE = 8
"""Requests in flight before the first reply. More is refused by a small quota: a bucket of 10 s of 40,000
tokens/min admits 8 requests of 750 tokens. Fewer takes longer to fill the window where latencies are long."""

_TIMEOUT_FACTOR = 0.5
"""Factor on the size after timeouts. Less wastes capacity after a single slow reply; more keeps a deployment
overloaded longer. Chosen, not measured: halving is usual in congestion control."""
_GROWTH_PER_REPLY = 1 / 8
"""Growth after timeouts, per reply: an eighth of the size once every request in flight is answered. More
overloads the deployment again sooner; here a halved window is full again after six such rounds. Chosen, not
measured."""
_MIN_SIZE = 1.0


class Window:
    """Requests that may be in flight now.

    Args:
        max_size: Requests in flight at most.
        starts_small: Begin with ``INITIAL_SIZE``, until a request is answered or ``open`` is called.

    Attributes:
        size: Requests that may be in flight.
        is_small: It still has its initial size.
    """

    def __init__(self, max_size: int, *, starts_small: bool = False) -> None:
        self.is_small = starts_small and max_size > INITIAL_SIZE
        self.size = INITIAL_SIZE if self.is_small else max_size
        self._max_size = max_size
        self._width = float(max_size)
        self._narrowed_s = 0.0

    def open(self) -> None:
        """Grow from the initial size to the full size."""
        if self.is_small:
            self.is_small, self.size = False, self._max_size

    def answered(self) -> None:
        """Grow after a reply."""
        self.open()
        if self.size < self._max_size:
            self._width = min(self._width + _GROWTH_PER_REPLY, float(self._max_size))
            self.size = int(self._width)

    def timed_out(self, sent_s: float, now_s: float) -> None:
        """Halve after a timeout; once for all requests that were sent before the window was last halved."""
        if not self.is_small and sent_s >= self._narrowed_s:
            self._narrowed_s = now_s
            self._width = max(self._width * _TIMEOUT_FACTOR, _MIN_SIZE)
            self.size = int(self._width)
