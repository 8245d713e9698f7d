"""The run, on one page: prepare, discover, map, report, raise."""

import logging
import time
from collections.abc import Sequence
from typing import cast

from prefect import flow, unmapped
from prefect.task_runners import ThreadPoolTaskRunner

from flows import logs
from tasks.core import gone
from tasks.core.budget import budget_of
from tasks.core.errors import PipelineError, RunFailedError, StopRunError, TooManyFailedError
from tasks.core.gateway import Gateway, open_gateway
from tasks.core.housekeeping import remove_leftovers
from tasks.core.job import Job, prepare
from tasks.core.lease import Lease
from tasks.core.ledger import Ledger
from tasks.core.model import Partition, Plan
from tasks.core.options import (
    DEFAULT_PROMPT,
    LimitOptions,
    ModelOptions,
    OutputOptions,
    PriceOptions,
    RunOptions,
)
from tasks.core.plan import Why
from tasks.core.progress import Progress
from tasks.core.report import PartitionReport, PartitionState, RunReport
from tasks.core.settings import Settings
from tasks.core.tally import Bill
from tasks.discover import find_partitions
from tasks.plan import plan_run
from tasks.report import publish_report
from tasks.summarize import with_retries

logger = logging.getLogger(__name__)


@flow(name="summarize-parquet", flow_run_name="summarize {source}", log_prints=False)
def summarize_parquet(
    source: str,
    destination: str,
    text_column: str,
    prompt: str = DEFAULT_PROMPT,
    model: ModelOptions = ModelOptions(),
    limits: LimitOptions = LimitOptions(),
    output: OutputOptions = OutputOptions(),
    run: RunOptions = RunOptions(),
    prices: PriceOptions = PriceOptions(),
) -> RunReport:
    """Summarize a text column of Parquet partitions and write the same partitions, enriched.

    Args:
        source: Where the partitions are: a prefix, a glob or one file, as s3://bucket/folder or a local path.
        destination: Where enriched partitions go, under the same relative paths; not inside the source.
        text_column: The column to summarize.
        prompt: What to tell the model. {text} marks the place of the row's text, else it follows.
        model: What is asked of the model.
        limits: How hard the deployment may be worked, and how patiently.
        output: What the enriched partitions look like, and which are good enough to publish.
        run: How much of it this run does.
        prices: What tokens cost, when it is not the list price.

    Returns:
        What happened to every partition; counts only, no data.

    Raises:
        InputError: What was asked for cannot be done; nothing was spent.
        StopRunError: The budget is spent, the deployment serves no request, or it asks for a long wait.
        RunFailedError: Rows or partitions failed; all others are published.
    """
    logs.configure()
    started_s = time.monotonic()
    settings = Settings.from_environment()
    job = prepare(
        source,
        destination,
        text_column,
        prompt=prompt,
        model=model,
        output=output,
        prices=prices,
        settings=settings,
    )
    if run.dry_run:
        return _dry_run(job, run, started_s)
    budget = budget_of(limits, job.price, prompt, model.max_output_tokens)
    # Left from the last to the first: the gateway, which ends what the runner's threads wait for; when they
    # have ended, the ledger, which stores the last replies; then the lease, which lets other runs begin.
    with (
        Progress() as progress,
        Lease(job.destination) as lease,
        Ledger(job.destination, progress.advance) as ledger,
        _runner(limits.max_open_partitions) as runner,
    ):
        remove_leftovers(job.destination)
        plan = find_partitions(job, run)
        ledger.sweep([partition.key for partition in plan.finished])
        progress.start(plan.rows)
        results: list[PartitionReport | BaseException] = []
        bill = Bill()
        if plan.partitions:
            # Not before: what it opens takes seconds to import.
            with open_gateway(settings, job.request, limits, model.client, budget, progress) as gateway:
                lease.when_lost(gateway.stop)
                progress.watch(lambda: gateway.state)
                results = _summarize_all(plan, job, gateway, ledger, limits, runner)
            bill = gateway.bill
        else:
            logger.info("Nothing to do: %d partitions are finished and unchanged", len(plan.finished))
        pruned = _prune(plan, job, run, ledger, results)
    report = RunReport(
        source=source,
        destination=destination,
        partitions=_partition_reports(plan, results),
        left_out=plan.left_out,
        seconds=time.monotonic() - started_s,
        bill=bill,
        price=job.price,
        gone=plan.gone,
        pruned=pruned,
    )
    # The report is worth having, but its page is not worth failing a paid run for.
    publish_report(report, return_state=True)
    _raise_if_failed(report, results)
    return report


def _dry_run(job: Job, run: RunOptions, started_s: float) -> RunReport:
    """What a run would do, told and published; takes no lease, writes nothing to the destination."""
    plan = plan_run(job, run)
    states = {Why.FINISHED: PartitionState.SKIPPED, Why.LEFT: PartitionState.LEFT}
    return RunReport(
        source=plan.source,
        destination=plan.destination,
        partitions=tuple(
            PartitionReport(key=one.key, state=states.get(one.why, PartitionState.PLANNED))
            for one in plan.partitions
        ),
        left_out=plan.left_out,
        seconds=time.monotonic() - started_s,
        price=job.price,
        gone=plan.gone,
        plan=plan,
    )


def _prune(
    plan: Plan, job: Job, run: RunOptions, ledger: Ledger, results: Sequence[PartitionReport | BaseException]
) -> tuple[str, ...]:
    """Remove outputs whose source is gone, if that was asked for and nothing stopped the run."""
    if not run.prune or not plan.gone or any(isinstance(result, StopRunError) for result in results):
        return ()
    pruned = gone.remove(plan.gone, job, run.only)
    ledger.sweep(pruned)
    return pruned


def _runner(open_partitions: int) -> "ThreadPoolTaskRunner[PartitionReport]":
    return ThreadPoolTaskRunner(max_workers=open_partitions)


def _summarize_all(
    plan: Plan,
    job: Job,
    gateway: Gateway,
    ledger: Ledger,
    limits: LimitOptions,
    runner: ThreadPoolTaskRunner[PartitionReport],
) -> list[PartitionReport | BaseException]:
    """One task per partition, as many at once as partitions may be open; waits for all."""
    one = with_retries(limits.partition_retries)
    shared = {"job": unmapped(job), "gateway": unmapped(gateway), "ledger": unmapped(ledger)}
    futures = runner.map(one, {"partition": plan.partitions, **shared})
    # Prefect's annotations do not tell that, when it need not raise, it hands back the exception.
    return [cast("PartitionReport | BaseException", f.result(raise_on_failure=False)) for f in futures]


def _partition_reports(
    plan: Plan, results: Sequence[PartitionReport | BaseException]
) -> tuple[PartitionReport, ...]:
    """One report per partition, in the order of their keys."""
    others = [PartitionReport(key=p.key, state=PartitionState.SKIPPED) for p in plan.finished]
    others += [PartitionReport(key=p.key, state=PartitionState.LEFT) for p in plan.left]
    return tuple(
        sorted([*others, *map(_partition_report, plan.partitions, results)], key=lambda one: one.key)
    )


def _partition_report(partition: Partition, result: PartitionReport | BaseException) -> PartitionReport:
    """A task's result as a report; an exception is a failed partition."""
    if isinstance(result, PartitionReport):
        return result
    if isinstance(result, TooManyFailedError) and result.report:
        return result.report
    known = isinstance(result, PipelineError)
    error = str(result) if known else f"unexpected {type(result).__name__}; the run's log tells where"
    return PartitionReport(key=partition.key, state=PartitionState.FAILED, error=error)


def _raise_if_failed(report: RunReport, results: Sequence[PartitionReport | BaseException]) -> None:
    for result in results:
        if isinstance(result, StopRunError):
            result.report = report
            raise result
    if not report.succeeded:
        message = f"{report.headline}. The report names the partitions."
        raise RunFailedError(message, report=report)
