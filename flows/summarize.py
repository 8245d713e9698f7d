"""The run, on one page: prepare, discover, map, report, end."""

import logging
from typing import Annotated, cast

from prefect import flow, unmapped
from prefect.exceptions import TerminationSignal
from prefect.task_runners import ThreadPoolTaskRunner

from flows import endings, logs
from flows.credentials import run_settings
from tasks.core.errors import PipelineError
from tasks.core.job import Job, prepare
from tasks.core.lease.lease import Lease
from tasks.core.ledger.cleanup import remove_leftovers
from tasks.core.ledger.ledger import Ledger
from tasks.core.llm.budget import budget_of
from tasks.core.model import Plan
from tasks.core.monitor import Monitor
from tasks.core.options import (
    DEFAULT_PROMPT,
    LimitOptions,
    ModelOptions,
    OutputOptions,
    PriceOptions,
    RunOptions,
    titled,
)
from tasks.core.planning import orphans
from tasks.core.planning.grouping import group, open_at_once
from tasks.core.progress import Progress
from tasks.core.reporting import archive
from tasks.core.reporting.report import RunReport
from tasks.core.reporting.results import Results
from tasks.core.rows.gateway import Gateway
from tasks.core.rows.gateway_factory import open_gateway
from tasks.discover import find_partitions
from tasks.dryrun import dry_run
from tasks.events import tell_end, tell_plan
from tasks.progress import showing_progress
from tasks.report import healing, publish_report, run_name
from tasks.summarize import with_retries

logger = logging.getLogger(__name__)


@flow(name="summarize-parquet", flow_run_name="summarize {source}", log_prints=False)
def summarize_parquet(
    source: Annotated[str, titled("Source", min_length=1)],
    destination: Annotated[str, titled("Destination", min_length=1)],
    text_column: Annotated[str, titled("Text column", min_length=1)],
    prompt: Annotated[str, titled("Prompt", min_length=1)] = DEFAULT_PROMPT,
    model: Annotated[ModelOptions, titled("Model")] = ModelOptions(),
    limits: Annotated[LimitOptions, titled("Limits")] = LimitOptions(),
    output: Annotated[OutputOptions, titled("Output")] = OutputOptions(),
    run: Annotated[RunOptions, titled("Run")] = RunOptions(),
    prices: Annotated[PriceOptions, titled("Prices")] = PriceOptions(),
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
        run: Which files this run takes, and how much of the work it does.
        prices: What tokens cost, when it is not the list price.

    Returns:
        What happened to every partition; counts only, no data.

    Raises:
        InputError: What was asked for cannot be done; nothing was spent.
        LeaseError: Another run works on the destination; nothing was spent.
        StopRunError: The budget is spent, the deployment serves no request, or it asks for a long wait.
        RunFailedError: Rows or partitions failed; all others are published.
    """
    logs.configure()
    try:
        settings, progress = run_settings(), Progress()
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
            return dry_run(job, run)
        budget = budget_of(limits, job.price, job.request)
        gateway = open_gateway(settings, job.request, limits, budget, progress)
        ended = endings.completed(_run(job, run, limits, output, gateway, progress))
    except PipelineError as error:
        ended = endings.failed(error)
    except (KeyboardInterrupt, TerminationSignal):
        # Ctrl-C, or cancelled on the run's page: the state's words are Prefect's, so the log tells.
        logger.warning("Interrupted: what was answered is kept; run again to go on")
        raise
    # Prefect takes the state for the run's own, and gives the caller its report, or raises its error.
    return cast("RunReport", ended)


def _run(
    job: Job,
    run: RunOptions,
    limits: LimitOptions,
    output: OutputOptions,
    gateway: Gateway,
    progress: Progress,
) -> RunReport:
    """Do the work; whatever it ends with, once there was a plan there is a report."""
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
            plan = find_partitions(job, run)
            ledger.sweep([partition.key for partition in plan.finished])
            progress.start(plan.rows)
            tell_plan(plan)
            if plan.partitions:
                _summarize_all(plan, job, gateway, ledger, limits, monitor, results)
            pruned = () if results.stopped_by else orphans.prune(plan, job, run)
            ledger.sweep(pruned)
    finally:
        if plan:
            report = monitor.report(job, plan, results, pruned)
            files = archive.write(report, job, output.sample_summaries, run_name(), healing())
    # The report is worth having, but its page is not worth failing a paid run for.
    publish_report(report, files, return_state=True)
    tell_end(report, results.stopped_by, output.alert_failed_rows)
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
    """One task per partition, or per group of small ones, as many at once as may be open; waits for all."""
    groups = group(plan.partitions, limits.max_tasks)
    shared = {"job": job, "gateway": gateway, "ledger": ledger, "results": results}
    arguments = {name: unmapped(value) for name, value in shared.items()}
    # Left from the last to the first: closing the gateway ends what the runner's threads wait for. It is not
    # opened before there is work, since what it opens takes seconds to import.
    with (
        ThreadPoolTaskRunner[None](max_workers=open_at_once(plan, limits)) as runner,
        gateway,
        monitor,
        showing_progress(monitor, job.price),
    ):
        futures = runner.map(with_retries(limits.partition_retries), {"group": groups, **arguments})
        for one, future in zip(groups, futures, strict=True):
            # Prefect's annotations do not tell that, when it need not raise, it hands back the exception.
            error = cast("BaseException | None", future.result(raise_on_failure=False))
            results.tell_group(one.partitions, error)
