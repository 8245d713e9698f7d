"""What became of every partition so far, while a run works on them.

Told by the threads that work on partitions, the moment it is known. So a run that is interrupted can still
tell what it did, and a group of partitions that is tried again does not repeat what is settled.
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
    without_frames,
)
from tasks.core.escaping import printable
from tasks.core.model import Partition, Plan
from tasks.core.reporting.report import PartitionReport, PartitionState, RunReport

logger = logging.getLogger(__name__)


class Results:
    """Results by partition; from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: dict[str, PartitionReport | BaseException] = {}

    def tell(self, partition: Partition, result: PartitionReport | BaseException) -> None:
        """Record how a partition ended; the last record counts. Errors are kept without their frames."""
        if isinstance(result, BaseException):
            _log_if_unexpected(partition, result)
            without_frames(result)
        with self._lock:
            self._of[partition.key] = result

    def tell_group(self, partitions: Iterable[Partition], error: BaseException | None) -> None:
        """Note what a task ended with, for those of its partitions of which nothing is known."""
        for partition in partitions:
            if error is not None and partition.key not in self._of:
                self.tell(partition, error)

    def is_settled(self, partition: Partition) -> bool:
        """Trying the partition again in this run would change nothing."""
        result = self._of.get(partition.key)
        return result is not None and not isinstance(result, TransientError)

    @property
    def stopped_by(self) -> StopRunError | None:
        """The first error that stopped the run; None if none did."""
        with self._lock:
            return next((error for error in self._of.values() if isinstance(error, StopRunError)), None)

    def reports(self, plan: Plan) -> tuple[PartitionReport, ...]:
        """One report per partition of a plan, in the order of their keys."""
        others = [PartitionReport(key=p.key, state=PartitionState.SKIPPED) for p in plan.finished]
        others += [PartitionReport(key=p.key, state=PartitionState.LEFT) for p in plan.left]
        worked = [_report(p, self._of.get(p.key)) for p in plan.partitions]
        return tuple(sorted([*others, *worked], key=lambda one: one.key))

    def raise_if_failed(self, report: RunReport) -> None:
        """End a run that did not do all it was asked to; all others are finished, and the report is made.

        Raises:
            StopRunError: What stopped it.
            RunFailedError: Rows or partitions failed.
        """
        if stopped := self.stopped_by:
            stopped.report = report
            raise stopped
        if not report.succeeded:
            message = f"{report.headline}. The report names the partitions."
            with self._lock:
                refused = any(isinstance(result, InputError) for result in self._of.values())
            raise RunFailedError(message, report=report, refused=refused)


def _log_if_unexpected(partition: Partition, error: BaseException) -> None:
    """Log where an error came from that is none of ours; not its message, which may quote a row."""
    if not isinstance(error, PipelineError):
        # Frames are formatted with their source lines and without their variables' values.
        stack = "".join(traceback.format_tb(error.__traceback__)).rstrip()
        logger.error("Partition %s: unexpected %s\n%s", printable(partition.key), type(error).__name__, stack)


def _report(partition: Partition, result: PartitionReport | BaseException | None) -> PartitionReport:
    if isinstance(result, PartitionReport):
        return result
    empty = PartitionReport(key=partition.key, state=PartitionState.FAILED)
    if result is None or isinstance(result, StopRunError):
        return replace(
            empty, state=PartitionState.UNFINISHED, error="the run stopped before it was finished; run again"
        )
    if isinstance(result, TooManyFailedError) and result.report:
        return result.report
    known = isinstance(result, PipelineError)
    error = str(result) if known else f"unexpected {type(result).__name__}; the run's log says where"
    return replace(empty, error=error)
