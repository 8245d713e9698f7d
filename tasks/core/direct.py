"""A run without Prefect: the same partitions through the same code, in one process.

For scripts, tests and machines without a server. What Prefect adds is missing: retries of partitions whose
storage failed, pages, events, cancellation from afar. The same command again does what a retry would.
"""

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from tasks.core.job import Job
from tasks.core.lease.lease import Lease
from tasks.core.ledger.cleanup import remove_leftovers
from tasks.core.ledger.ledger import Ledger
from tasks.core.model import Partition, Plan
from tasks.core.monitor import Monitor
from tasks.core.options import LimitOptions, OutputOptions, RunOptions
from tasks.core.partition import summarize_partition
from tasks.core.planning import orphans
from tasks.core.planning.grouping import open_at_once
from tasks.core.planning.partition_status import find_work
from tasks.core.progress import Progress
from tasks.core.reporting import archive
from tasks.core.reporting.report import RunReport
from tasks.core.reporting.results import Results
from tasks.core.rows.gateway import Gateway


def run_directly(
    job: Job,
    gateway: Gateway,
    progress: Progress,
    limits: LimitOptions = LimitOptions(),
    output: OutputOptions = OutputOptions(),
    run: RunOptions = RunOptions(),
) -> RunReport:
    """Summarize the partitions of a job.

    Args:
        job: What all partitions have in common; see ``job.prepare``.
        gateway: Where rows are summarized; see ``opening.open_gateway``. Entered here.
        progress: Counts rows; the one the gateway tells.
        limits: How many partitions are open at once.
        output: Whether the report shows rows.
        run: Which partitions to work on.

    Returns:
        What happened to every partition.

    Raises:
        InputError: What was asked for cannot be done; nothing was spent.
        LeaseError: Another run works on the destination; nothing was spent.
        StopRunError: The budget is spent, or the deployment serves no request for now.
        RunFailedError: Rows or partitions failed; all others are published.
    """
    monitor, results, plan = Monitor(progress, gateway), Results(), None
    pruned: tuple[str, ...] = ()
    try:
        request = job.request
        ledger = Ledger(
            job.destination,
            progress.advance,
            fingerprint=request.fingerprint,
            earlier=job.earlier,
        )
        with progress, Lease(job.destination) as lease, ledger:
            lease.when_lost(gateway.stop)
            remove_leftovers(job.destination)
            plan = find_work(job, run)
            ledger.sweep([partition.key for partition in plan.finished])
            progress.start(plan.rows)
            _summarize_all(plan, job, gateway, ledger, limits, monitor, results)
            pruned = () if results.stopped_by else orphans.prune(plan, job, run)
            ledger.sweep(pruned)
    finally:
        if plan:
            report = monitor.report(job, plan, results, pruned)
            name = f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}-{uuid.uuid4().hex[:8]}"
            archive.write(report, job, output.sample_summaries, name, "")
    results.raise_if_failed(report)
    return report


def _summarize_all(
    plan: Plan,
    job: Job,
    gateway: Gateway,
    ledger: Ledger,
    limits: LimitOptions,
    monitor: Monitor,
    results: Results,
) -> None:
    def one(partition: Partition) -> None:
        try:
            gateway.check()
            results.tell(partition, summarize_partition(partition, job, gateway, ledger))
        except Exception as error:  # noqa: BLE001 - one bad partition is one bad partition; it is in the results
            results.tell(partition, error)

    if plan.partitions:
        # Left from the last to the first: closing the gateway ends what the pool's threads wait for.
        with ThreadPoolExecutor(open_at_once(plan, limits)) as pool, gateway, monitor:
            list(pool.map(one, plan.partitions))
