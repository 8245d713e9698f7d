"""A run from its lease to its report: find partitions, summarize all of them, remove orphans, report."""

from datetime import UTC, datetime

from tasks.core.errors import GroupError
from tasks.core.lease.lease import Lease
from tasks.core.ledger.cleanup import remove_leftovers
from tasks.core.model import Plan
from tasks.core.planning import orphans
from tasks.core.planning.grouping import Group, partition_concurrency
from tasks.core.reporting import archive
from tasks.core.reporting.report import RunReport
from tasks.core.run.group_report import GroupReport
from tasks.core.run.monitor import Monitor
from tasks.core.run.orchestrator import Orchestrator
from tasks.core.run.registry import registered
from tasks.core.run.worker import Worker


def run(worker: Worker, orchestrator: Orchestrator) -> RunReport:
    """Do a run; if it has a plan, it ends with a report, also when it fails or is interrupted.

    Args:
        worker: The driver's; its ledger and gateway are entered here.
        orchestrator: Maps the partitions, and emits progress and events.

    Returns:
        The results of all partitions.

    Raises:
        InputError: The run cannot be done as chosen; nothing was spent.
        LeaseError: Another run holds the lease; nothing was spent.
        StopRunError: The run stopped early; it can be continued.
        RunFailedError: Rows or partitions failed; all others are published.
    """
    spec, job, results = worker.spec, worker.job, worker.results
    monitor, plan = Monitor(worker), None
    pruned: tuple[str, ...] = ()
    try:
        with worker.progress, Lease(job.destination) as lease, worker.ledger as ledger:
            lease.on_lost(worker.gateway.stop)
            remove_leftovers(job.destination)
            plan = orchestrator.find_partitions(job, spec)
            ledger.sweep([partition.key for partition in plan.finished])
            worker.progress.start(plan.rows)
            orchestrator.emit_plan(plan)
            if plan.partitions:
                _summarize_all(plan, worker, orchestrator, monitor)
            pruned = () if results.stopped_by else orphans.prune(plan, job, spec.run)
            ledger.sweep(pruned)
    finally:
        if plan:
            report = monitor.report(plan, pruned)
            name = f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}-{spec.run_id[:8]}"
            files = archive.write(report, job, spec.output.sample_summaries, name, orchestrator.retry_command)
    orchestrator.emit_end(report, files, results.stopped_by)
    results.raise_if_failed(report)
    return report


def _summarize_all(plan: Plan, worker: Worker, orchestrator: Orchestrator, monitor: Monitor) -> None:
    """Summarize the partitions of a plan and collect the results."""
    max_workers = partition_concurrency(plan, worker.spec.limits)
    # Exited from the last to the first: closing the gateway ends the requests that tasks wait for. It is
    # opened only if there is work, since its client takes seconds to import.
    with (
        registered(worker),
        orchestrator.workers(worker.spec, max_workers) as map_partitions,
        worker.gateway,
        monitor,
        orchestrator.showing_progress(monitor),
    ):
        for group, ended in map_partitions(plan.partitions):
            _collect(group, ended, worker, monitor)


def _collect(group: Group, ended: GroupReport | BaseException, worker: Worker, monitor: Monitor) -> None:
    """Record the results of a task."""
    report = (ended.report if isinstance(ended, GroupError) else None) or ended
    if not isinstance(report, GroupReport):
        worker.results.record_group(group.partitions, report)
        return
    monitor.record(report)
    for partition in group.partitions:
        if partition.key in report.results:
            worker.results.record(partition, report.results[partition.key])
