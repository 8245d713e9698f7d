"""Monitors a run: a progress snapshot every second, and the report at the end."""

import time
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from tasks.core.model import Plan
from tasks.core.periodic import call_every
from tasks.core.pricing import Price
from tasks.core.reporting.report import PartitionReport, RunMetrics, RunReport
from tasks.core.reporting.series import Series, Snapshot
from tasks.core.reporting.tally import Bill
from tasks.core.run.group_report import GroupReport
from tasks.core.run.worker import Worker

_PERIOD_S = 1.0
"""Between snapshots. Shorter shows shorter dips of the rate in the report's chart, and costs more: a snapshot
takes some microseconds, and of a long run every second one is dropped anyway. Not measured; chosen as the
time in which a person expects a rate to change."""


class Monitor:
    """Takes snapshots of a run; a context manager, to be entered after the gateway.

    Args:
        worker: The driver's worker, whose progress and gateway count rows and requests.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._began_s = time.monotonic()
        self._series = Series()
        self._ticking = ExitStack()
        self._remote: dict[str, Bill] = {}

    @property
    def bill(self) -> Bill:
        """Requests of this process, and those reported by workers of other processes."""
        return sum(self._remote.values(), self._worker.gateway.bill)

    @property
    def price(self) -> Price | None:
        """What tokens cost; None when it is unknown."""
        return self._worker.job.price

    @property
    def snapshot(self) -> Snapshot:
        """The run's counts now; from any thread."""
        progress, gateway = self._worker.progress, self._worker.gateway
        return Snapshot(
            seconds=time.monotonic() - self._began_s,
            total_rows=progress.total,
            rows=progress.rows,
            failed_rows=progress.failed,
            bill=self.bill,
            in_flight=gateway.in_flight,
            window=gateway.window,
        )

    def record(self, report: GroupReport) -> None:
        """Count what a worker of another process reports; this process's counts are complete without."""
        if not report.worker_id:
            return
        bills = (report.bill, self._remote.get(report.worker_id, Bill()))
        self._remote |= {report.worker_id: max(bills, key=lambda bill: bill.sent)}
        for result in report.results.values():
            if isinstance(result, PartitionReport):
                self._worker.progress.advance(result.tally.rows, result.tally.failed)

    def report(self, plan: Plan, pruned: tuple[str, ...]) -> RunReport:
        """The report of the run; to be made when the gateway is closed."""
        job = self._worker.job
        return RunReport(
            source=job.pattern,
            destination=job.destination.url,
            partitions=self._worker.results.reports(plan),
            left_out=plan.left_out,
            seconds=self.snapshot.seconds,
            bill=self.bill,
            price=job.price,
            metrics=self.metrics,
            orphans=plan.orphans,
            pruned=pruned,
        )

    @property
    def metrics(self) -> RunMetrics:
        """Measurements of the run; complete when its gateway is closed."""
        return RunMetrics(series=self._series.ended(self.snapshot), requests=self._worker.gateway.histograms)

    def __enter__(self) -> Self:
        """Begin to take snapshots."""
        self._worker.progress.show_state(lambda: self._worker.gateway.state)
        self._series.offer(self.snapshot)
        self._ticking.enter_context(call_every(_PERIOD_S, lambda: self._series.offer(self.snapshot)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self._ticking.close()
