"""What differs between runs with and without Prefect: how partitions are mapped, and what is emitted."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from tasks.core.errors import StopRunError
from tasks.core.job import Job
from tasks.core.model import Partition, Plan
from tasks.core.planning.grouping import Group
from tasks.core.reporting.report import RunReport
from tasks.core.run.group_report import GroupReport
from tasks.core.run.monitor import Monitor
from tasks.core.run.spec import RunSpec

MapPartitions = Callable[[Sequence[Partition]], Iterable[tuple[Group, GroupReport | BaseException]]]
"""Summarizes partitions, several at the same time; returns every group's report, or the error of its task."""


class Orchestrator(Protocol):
    """What a run needs of the place where it runs; implemented with Prefect and with threads."""

    @property
    def retry_command(self) -> str:
        """The command that repeats this run for what failed; empty if it is the person's own command."""
        ...

    def find_partitions(self, job: Job, spec: RunSpec) -> Plan:
        """Find the partitions that need work; see ``partition_status.find_work``."""
        ...

    def emit_plan(self, plan: Plan) -> None:
        """Emit what the run will do."""
        ...

    def workers(self, spec: RunSpec, max_workers: int) -> AbstractContextManager[MapPartitions]:
        """Start workers for tasks; leaving the context waits for the tasks."""
        ...

    def showing_progress(self, monitor: Monitor) -> AbstractContextManager[None]:
        """Show the progress of the run."""
        ...

    def emit_end(self, report: RunReport, files: Sequence[str], stopped_by: StopRunError | None) -> None:
        """Publish the report and emit how the run ended.

        Args:
            report: Of the run.
            files: Where the report was written.
            stopped_by: The error that stopped the run; None if no error did.
        """
        ...
