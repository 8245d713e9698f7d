"""Results of the partitions of a run, recorded while it works.

Each is recorded by the thread that processed the partition, as soon as it ends. So an interrupted run still
reports what it did, and a retried group of partitions does not repeat those with a final result.
"""

import logging
import threading
import traceback
from collections.abc import Iterable
from dataclasses import replace

from tasks.core.errors import (
    InputError,
    PipelineError,
    RunFailedError,
    StopRunError,
    TooManyFailedError,
    TransientError,
    UnexpectedError,
    without_frames,
)
from tasks.core.escaping import printable
from tasks.core.model import Partition, Plan
from tasks.core.reporting.report import PartitionReport, PartitionState, RunReport

logger = logging.getLogger(__name__)


class Results:
    """Results by partition; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._results: dict[str, PartitionReport | PipelineError] = {}

    def record(self, partition: Partition, result: PartitionReport | BaseException) -> None:
        """Record the result of a partition; replaces an earlier one. Errors are kept without their frames."""
        kept = _picklable(partition, result) if isinstance(result, BaseException) else result
        with self._lock:
            self._results[partition.key] = kept

    def record_group(self, partitions: Iterable[Partition], error: BaseException | None) -> None:
        """Record the error of a task for its partitions that have no result."""
        for partition in partitions:
            if error is not None and partition.key not in self._results:
                self.record(partition, error)

    def of(self, partitions: Iterable[Partition]) -> dict[str, PartitionReport | PipelineError]:
        """The results of these partitions by key; a partition without a result is missing."""
        with self._lock:
            return {p.key: self._results[p.key] for p in partitions if p.key in self._results}

    def is_final(self, partition: Partition) -> bool:
        """Whether the partition has a result that a retry in this run would not change."""
        result = self._results.get(partition.key)
        return result is not None and not isinstance(result, TransientError)

    @property
    def stopped_by(self) -> StopRunError | None:
        """The first error that stopped the run; None if no error did."""
        with self._lock:
            return next((error for error in self._results.values() if isinstance(error, StopRunError)), None)

    def reports(self, plan: Plan) -> tuple[PartitionReport, ...]:
        """One report per partition of the plan, in the order of their keys."""
        others = [PartitionReport(key=p.key, state=PartitionState.SKIPPED) for p in plan.finished]
        others += [PartitionReport(key=p.key, state=PartitionState.LEFT) for p in plan.left]
        processed = [_report(p, self._results.get(p.key)) for p in plan.partitions]
        return tuple(sorted([*others, *processed], key=lambda one: one.key))

    def raise_if_failed(self, report: RunReport) -> None:
        """Raise the error of a run that did not finish all rows; called when its report is complete.

        Raises:
            StopRunError: The error that stopped the run.
            RunFailedError: Rows or partitions failed.
        """
        if stopped := self.stopped_by:
            stopped.report = report
            raise stopped
        if not report.succeeded:
            message = f"{report.headline}. The report names the partitions."
            with self._lock:
                refused = any(isinstance(result, InputError) for result in self._results.values())
            raise RunFailedError(message, report=report, refused=refused)


def _picklable(partition: Partition, error: BaseException) -> PipelineError:
    """An error without its frames; one that this program did not raise is logged and replaced.

    Its message may contain a row's text, and its class may not survive pickling.
    """
    if isinstance(error, PipelineError):
        return without_frames(error)
    # A formatted stack shows source lines, not the values of variables.
    stack = "".join(traceback.format_tb(error.__traceback__)).rstrip()
    logger.error("Partition %s: unexpected %s\n%s", printable(partition.key), type(error).__name__, stack)
    without_frames(error)
    return UnexpectedError(f"unexpected {type(error).__name__}; its stack is in the run's log")


def _report(partition: Partition, result: PartitionReport | PipelineError | None) -> PartitionReport:
    if isinstance(result, PartitionReport):
        return result
    empty = PartitionReport(key=partition.key, state=PartitionState.FAILED)
    if result is None or isinstance(result, StopRunError):
        return replace(
            empty, state=PartitionState.UNFINISHED, error="the run stopped before it was finished; run again"
        )
    if isinstance(result, TooManyFailedError) and result.report:
        return result.report
    return replace(empty, error=str(result))
