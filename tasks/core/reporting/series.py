"""A run over time: its pulse, taken now and then, in a series that stays small however long it runs."""

from dataclasses import dataclass

from tasks.core.reporting.tally import Bill

_MOST = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """How a run is at one moment; counts are since its beginning.

    Attributes:
        seconds: Since it began.
        total_rows: Rows in all partitions it works on.
        rows: Rows that have an outcome.
        failed_rows: Those of them that failed.
        bill: What was sent and received.
        in_flight: Requests in flight.
        window: Requests allowed in flight.
    """

    seconds: float
    total_rows: int = 0
    rows: int = 0
    failed_rows: int = 0
    bill: Bill = Bill()
    in_flight: int = 0
    window: int = 0

    @property
    def percent(self) -> float:
        """Rows that have an outcome, of all; 0 to 100."""
        return 100.0 * min(self.rows / self.total_rows, 1.0) if self.total_rows else 0.0


class Series:
    """Pulses in order; when there are too many, every second one is dropped, and fewer are taken.

    Args:
        most: Pulses kept.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._pulses: list[Pulse] = []
        self._every = 1
        self._offered = 0

    def offer(self, pulse: Pulse) -> None:
        """Keep a pulse, or not."""
        if self._offered % self._every == 0:
            if len(self._pulses) >= self._most:
                self._pulses = self._pulses[::2]
                self._every *= 2
            self._pulses.append(pulse)
        self._offered += 1

    def ended(self, last: Pulse) -> tuple[Pulse, ...]:
        """All that were kept, and the last one whatever happens."""
        return (*self._pulses[: self._most - 1], last)
