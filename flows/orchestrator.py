"""A run under Prefect: partitions as mapped tasks, events, a progress artifact, and the published report."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import cast

from prefect import unmapped
from prefect.task_runners import ThreadPoolTaskRunner

from tasks import events
from tasks.core.errors import StopRunError
from tasks.core.job import Job
from tasks.core.model import Partition, Plan
from tasks.core.planning.grouping import Group, group
from tasks.core.reporting.report import RunReport
from tasks.core.run.group_report import GroupReport
from tasks.core.run.monitor import Monitor
from tasks.core.run.orchestrator import MapPartitions
from tasks.core.run.spec import RunSpec
from tasks.discover import find_partitions
from tasks.progress import showing_progress
from tasks.report import publish_report, retry_command
from tasks.summarize import with_retries


class PrefectOrchestrator:
    """Maps partitions as Prefect tasks on threads of the flow's process.

    Args:
        alert_failed_rows: An event is emitted if more rows than this failed.
    """

    def __init__(self, alert_failed_rows: int = 0) -> None:
        self._alert_failed_rows = alert_failed_rows

    @property
    def retry_command(self) -> str:
        """The command that retries this flow run, if a deployment started it."""
        return retry_command()

    def find_partitions(self, job: Job, spec: RunSpec) -> Plan:  # noqa: ARG002 - a task gets no live object
        """Find the partitions that need work, in a task."""
        return find_partitions(spec)

    def emit_plan(self, plan: Plan) -> None:
        """Emit what the run will do."""
        events.emit_plan(plan)

    @contextmanager
    def workers(self, spec: RunSpec, max_workers: int) -> Iterator[MapPartitions]:
        """Start a task runner; one task per partition, or per group of small ones."""
        with ThreadPoolTaskRunner[GroupReport](max_workers=max_workers) as runner:

            def map_partitions(
                partitions: Sequence[Partition],
            ) -> Iterator[tuple[Group, GroupReport | BaseException]]:
                groups = group(partitions, spec.limits.max_tasks)
                task = with_retries(spec.limits.partition_retries)
                futures = runner.map(task, {"group": groups, "spec": unmapped(spec)})
                for one, future in zip(groups, futures, strict=True):
                    # Prefect's annotations omit that it returns the exception, if it need not raise it.
                    ended = cast("GroupReport | BaseException", future.result(raise_on_failure=False))
                    yield one, ended

            yield map_partitions

    def showing_progress(self, monitor: Monitor) -> AbstractContextManager[None]:
        """Keep a progress artifact up to date."""
        return showing_progress(monitor)

    def emit_end(self, report: RunReport, files: Sequence[str], stopped_by: StopRunError | None) -> None:
        """Publish the report, and emit events about budget, long waits and failed rows."""
        # A page that cannot be published is not worth failing a paid run for.
        publish_report(report, files, return_state=True)
        events.emit_end(report, stopped_by, self._alert_failed_rows)
