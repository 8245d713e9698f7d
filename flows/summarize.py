"""The Prefect flow: its parameters, and how its run ends. The run itself is in ``tasks/core/run``."""

import logging
from typing import Annotated, cast

from prefect import flow
from prefect.exceptions import TerminationSignal
from prefect.runtime import flow_run

from flows import endings, logs
from flows.orchestrator import PrefectOrchestrator
from tasks.core.errors import PipelineError
from tasks.core.options import (
    DEFAULT_PROMPT,
    LimitOptions,
    ModelOptions,
    OutputOptions,
    PriceOptions,
    RunOptions,
    titled,
)
from tasks.core.reporting.report import RunReport
from tasks.core.run.run import run as do_run
from tasks.core.run.spec import RunSpec
from tasks.core.run.worker import new_worker
from tasks.credentials import run_settings
from tasks.dryrun import dry_run

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
        prompt: The instruction for the model. {text} marks the place of the row's text, else it follows.
        model: What is requested of the model.
        limits: How many requests are sent, how fast and at what cost, and how often they are retried.
        output: What the enriched partitions look like, and which are good enough to publish.
        run: Which files this run takes, and how much of the work it does.
        prices: What tokens cost, when it is not the list price.

    Returns:
        What happened to every partition; counts only, no data.

    Raises:
        InputError: The run cannot be done as chosen; nothing was spent.
        LeaseError: Another run holds the lease of the destination; nothing was spent.
        StopRunError: The budget is used up, the deployment serves no request, or it asks for a long wait.
        RunFailedError: Rows or partitions failed; all others are published.
    """
    logs.configure()
    try:
        settings = run_settings()
        spec = RunSpec(
            source=source,
            destination=destination,
            text_column=text_column,
            prompt=prompt,
            model=model,
            limits=limits,
            output=output,
            run=run,
            prices=prices,
            settings=settings.without_secrets(),
            run_id=flow_run.id,
        )
        if run.dry_run:
            return dry_run(spec)
        orchestrator = PrefectOrchestrator(output.alert_failed_rows)
        ended = endings.completed(do_run(new_worker(spec, settings), orchestrator))
    except PipelineError as error:
        ended = endings.failed(error)
    except (KeyboardInterrupt, TerminationSignal):
        # Ctrl-C, or cancelled on the run's page: the state's message is Prefect's, so this one is logged.
        logger.warning("Interrupted: received replies are kept; run again to continue")
        raise
    # Prefect takes the state as the run's own, and returns its report to the caller, or raises its error.
    return cast("RunReport", ended)
