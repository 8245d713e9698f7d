"""The results of the partitions of one task, as the value that a task returns or its error carries."""

from collections.abc import Mapping
from dataclasses import dataclass

from tasks.core.errors import GroupError, PipelineError, StopRunError, TransientError
from tasks.core.reporting.report import PartitionReport
from tasks.core.reporting.tally import Bill


@dataclass(frozen=True, slots=True)
class GroupReport:
    """The results of a group of partitions; small and picklable, so that it may come from another process.

    Attributes:
        results: By partition key, a report or an error; partitions that were not started are missing.
        worker_id: The worker that another process than the driver's opened; empty in the driver's process.
        bill: All requests of that worker so far, for this group and others; final when it is closed.
    """

    results: Mapping[str, PartitionReport | PipelineError]
    worker_id: str = ""
    bill: Bill = Bill()

    @property
    def error(self) -> PipelineError | None:
        """The error that decides what happens to the task: one that stops the run, else one worth a retry."""
        errors = [result for result in self.results.values() if isinstance(result, PipelineError)]
        return min(errors, key=_order, default=None)

    def raise_if_failed(self) -> None:
        """Raise an error with this report, if a partition failed.

        Raises:
            GroupError: A partition failed; its message is that of the partition's error.
        """
        if error := self.error:
            raise GroupError(str(error), report=self, is_transient=isinstance(error, TransientError))


def _order(error: PipelineError) -> int:
    return next(place for place, kind in enumerate(_ORDER) if isinstance(error, kind))


_ORDER = (StopRunError, TransientError, PipelineError)
