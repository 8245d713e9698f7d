"""The events that a run emits to Prefect, for automations; they contain counts and names, no row text.

Every event's resource is ``summarize-parquet.run.ID``; Prefect adds the flow run, its deployment and its tags
as related resources.
"""

import logging
from enum import StrEnum

from prefect.events import emit_event
from prefect.runtime import flow_run

from tasks.core.errors import BudgetError, ParkedError, StopRunError
from tasks.core.model import Plan
from tasks.core.reporting.report import PartitionReport, RunReport

logger = logging.getLogger(__name__)


class RunEvent(StrEnum):
    """The events' names."""

    PLANNED = "summarize-parquet.run.planned"
    PARTITION_PUBLISHED = "summarize-parquet.partition.published"
    BUDGET_EXHAUSTED = "summarize-parquet.run.budget-exhausted"
    PARKED = "summarize-parquet.run.parked"
    FAILED_ROWS = "summarize-parquet.run.failed-rows-exceeded"


def emit_plan(plan: Plan) -> None:
    """Emit what a run will do."""
    emit(RunEvent.PLANNED, partitions=len(plan.partitions), rows=plan.rows, finished=len(plan.finished))


def emit_published(report: PartitionReport) -> None:
    """Emit that a partition is published."""
    tally = report.tally
    counts = {"rows": tally.rows, "failed_rows": tally.failed, "requests": tally.requests}
    emit(RunEvent.PARTITION_PUBLISHED, partition=report.key, **counts)


def emit_end(report: RunReport, stopped_by: StopRunError | None, alert_failed_rows: int) -> None:
    """Emit why a run stopped early, and that more of its rows failed than the alert allows.

    Args:
        report: The run's.
        stopped_by: The error that stopped it early; None if no error did.
        alert_failed_rows: The event about failed rows is emitted if more rows than this failed.
    """
    counts: dict[str, float | str | None] = {
        "partitions": len(report.partitions),
        "failed_partitions": len(report.failed_partitions),
        "unfinished_partitions": len(report.unfinished_partitions),
        "rows": report.tally.rows,
        "failed_rows": report.tally.failed,
        "requests": report.bill.sent,
        "cost_usd": report.cost_usd,
        "destination": report.destination,
    }
    if isinstance(stopped_by, BudgetError):
        emit(RunEvent.BUDGET_EXHAUSTED, **counts)
    if isinstance(stopped_by, ParkedError):
        emit(RunEvent.PARKED, wait_s=stopped_by.wait_s, **counts)
    if report.tally.failed > alert_failed_rows:
        emit(RunEvent.FAILED_ROWS, bound=alert_failed_rows, **counts)


def emit(event: RunEvent, **payload: float | str | None) -> None:
    """Emit an event; a failure to do so is logged and has no other effect."""
    try:
        emit_event(
            event.value,
            resource={
                "prefect.resource.id": f"summarize-parquet.run.{flow_run.id}",
                "prefect.resource.name": flow_run.name or "",
            },
            payload=payload,
        )
    except Exception as error:  # noqa: BLE001 - an event is not worth failing the run
        logger.warning("The event %s could not be emitted: %s", event.value, type(error).__name__)
