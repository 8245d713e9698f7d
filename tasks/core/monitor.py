"""Monitors a run: a progress snapshot every second, and the report at the end."""

import time
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from tasks.core.job import Job
from tasks.core.model import Plan
from tasks.core.periodic import call_every
from tasks.core.progress import Progress
from tasks.core.reporting.report import RunMetrics, RunReport
from tasks.core.reporting.results import Results
from tasks.core.reporting.series import Series, Snapshot
from tasks.core.rows.gateway import Gateway

_PERIOD_S = 1.0


class Monitor:
    """Takes snapshots of a run's progress; a context manager, to be entered after the gateway.

    Args:
        progress: Counts rows.
        gateway: Counts requests.
    """

    def __init__(self, progress: Progress, gateway: Gateway) -> None:
        self._progress = progress
        self._gateway = gateway
        self._began_s = time.monotonic()
        self._series = Series()
        self._ticking = ExitStack()

    @property
    def snapshot(self) -> Snapshot:
        """How the run is now; from any thread."""
        progress, gateway = self._progress, self._gateway
        return Snapshot(
            seconds=time.monotonic() - self._began_s,
            total_rows=progress.total,
            rows=progress.rows,
            failed_rows=progress.failed,
            bill=gateway.bill,
            in_flight=gateway.in_flight,
            window=gateway.window,
        )

    def report(self, job: Job, plan: Plan, results: Results, pruned: tuple[str, ...]) -> RunReport:
        """What happened; to be made when the gateway is closed."""
        return RunReport(
            source=job.pattern,
            destination=job.destination.url,
            partitions=results.reports(plan),
            left_out=plan.left_out,
            seconds=self.snapshot.seconds,
            bill=self._gateway.bill,
            price=job.price,
            metrics=self.metrics,
            orphans=plan.orphans,
            pruned=pruned,
        )

    @property
    def metrics(self) -> RunMetrics:
        """What was seen of the run; complete when its gateway is closed."""
        return RunMetrics(series=self._series.ended(self.snapshot), requests=self._gateway.histograms)

    def __enter__(self) -> Self:
        """Begin."""
        self._progress.show_state(lambda: self._gateway.state)
        self._series.offer(self.snapshot)
        self._ticking.enter_context(call_every(_PERIOD_S, lambda: self._series.offer(self.snapshot)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self._ticking.close()
