"""What a run tells Prefect while it works, so that automations can act on it; counts and names, no row text.

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


def tell_plan(plan: Plan) -> None:
    """Emit what a run will do."""
    tell(RunEvent.PLANNED, partitions=len(plan.partitions), rows=plan.rows, finished=len(plan.finished))


def tell_published(report: PartitionReport) -> None:
    """Emit that a partition is there."""
    tally = report.tally
    counts = {"rows": tally.rows, "failed_rows": tally.failed, "requests": tally.requests}
    tell(RunEvent.PARTITION_PUBLISHED, partition=report.key, **counts)


def tell_end(report: RunReport, stopped_by: StopRunError | None, alert_failed_rows: int) -> None:
    """Emit what there is to say of a run that ended.

    Args:
        report: What happened.
        stopped_by: What stopped it early; None if nothing did.
        alert_failed_rows: So many rows may fail before an event says so.
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
        tell(RunEvent.BUDGET_EXHAUSTED, **counts)
    if isinstance(stopped_by, ParkedError):
        tell(RunEvent.PARKED, wait_s=stopped_by.wait_s, **counts)
    if report.tally.failed > alert_failed_rows:
        tell(RunEvent.FAILED_ROWS, bound=alert_failed_rows, **counts)


def tell(event: RunEvent, **payload: float | str | None) -> None:
    """Emit an event; what keeps it from leaving is logged, and concerns nothing else."""
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
