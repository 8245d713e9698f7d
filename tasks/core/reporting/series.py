"""Snapshots of a run's progress over time, in a series of bounded length."""

from dataclasses import dataclass

from tasks.core.reporting.tally import Bill

_MAX_SNAPSHOTS = 600
"""Length of a series. More snapshots show shorter changes and make a larger report: measured, 600 take 172 kB
of JSON. The timeline is 688 pixels wide and could not show more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The progress of a run at one moment; counts are totals since the run began.

    Attributes:
        seconds: Seconds since the run began.
        total_rows: Rows in all partitions that the run processes.
        rows: Rows that have an outcome.
        failed_rows: Rows of these that failed.
        bill: Requests and tokens so far.
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
        """Rows that have an outcome as a percentage of all rows."""
        return 100.0 * min(self.rows / self.total_rows, 1.0) if self.total_rows else 0.0


class Series:
    """Snapshots in order. When the series is full, every second one is dropped and the interval is doubled.

    Args:
        max_snapshots: Largest number of snapshots kept.
    """

    def __init__(self, max_snapshots: int = _MAX_SNAPSHOTS) -> None:
        self._max_snapshots = max_snapshots
        self._snapshots: list[Snapshot] = []
        self._every = 1
        self._offered = 0

    def offer(self, snapshot: Snapshot) -> None:
        """Add a snapshot, unless it is skipped because of the current interval."""
        if self._offered % self._every == 0:
            if len(self._snapshots) >= self._max_snapshots:
                self._snapshots = self._snapshots[::2]
                self._every *= 2
            self._snapshots.append(snapshot)
        self._offered += 1

    def ended(self, last: Snapshot) -> tuple[Snapshot, ...]:
        """The series, always with the last snapshot."""
        return (*self._snapshots[: self._max_snapshots - 1], last)
