"""A run without Prefect, for scripts, tests and machines without a server: partitions on threads.

Not available without Prefect: retries of partitions whose storage failed, pages, events and cancellation from
another machine. Running the same command again does what a retry would.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext

from tasks.core.errors import StopRunError
from tasks.core.job import Job
from tasks.core.model import Partition, Plan
from tasks.core.planning.grouping import Group
from tasks.core.planning.partition_status import find_work
from tasks.core.reporting.report import RunReport
from tasks.core.run.group_report import GroupReport
from tasks.core.run.monitor import Monitor
from tasks.core.run.orchestrator import MapPartitions
from tasks.core.run.registry import summarize_group
from tasks.core.run.run import run
from tasks.core.run.spec import RunSpec
from tasks.core.run.worker import new_worker
from tasks.core.settings import Settings


def run_directly(spec: RunSpec, settings: Settings | None = None) -> RunReport:
    """Do a run without Prefect.

    Args:
        spec: The run.
        settings: How to reach the deployment; by default from the environment.

    Returns:
        The results of all partitions.

    Raises:
        InputError: The run cannot be done as chosen, or a setting is missing or wrong; nothing was spent.
        LeaseError: Another run holds the lease; nothing was spent.
        StopRunError: The budget is used up, or the deployment serves no request for now.
        RunFailedError: Rows or partitions failed; all others are published.
    """
    settings = settings or Settings.from_environment(**spec.settings)
    settings.check_needs_no_prefect()
    return run(new_worker(spec, settings), Threads())


class Threads:
    """Maps partitions on a pool of threads and emits nothing."""

    retry_command = ""

    def find_partitions(self, job: Job, spec: RunSpec) -> Plan:
        """Find the partitions that need work."""
        return find_work(job, spec.run)

    def emit_plan(self, plan: Plan) -> None:
        """Emit nothing."""

    @contextmanager
    def workers(self, spec: RunSpec, max_workers: int) -> Iterator[MapPartitions]:
        """Start threads; each takes one partition at a time."""
        with ThreadPoolExecutor(max_workers) as pool:

            def map_partitions(partitions: Sequence[Partition]) -> Iterator[tuple[Group, GroupReport]]:
                groups = [Group((partition,)) for partition in partitions]
                return zip(groups, pool.map(lambda one: summarize_group(one, spec), groups), strict=True)

            yield map_partitions

    def showing_progress(self, monitor: Monitor) -> AbstractContextManager[None]:  # noqa: ARG002 - the protocol's
        """Show nothing but the terminal's progress bar."""
        return nullcontext()

    def emit_end(self, report: RunReport, files: Sequence[str], stopped_by: StopRunError | None) -> None:
        """Emit nothing."""
