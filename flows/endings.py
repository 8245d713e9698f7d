"""How a run ends, as a Prefect state with a name and a sentence for the run's page.

Prefect returns the report in such a state to the flow's caller, or raises the error in it.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed

from tasks.core.errors import (
    BudgetError,
    InterruptedRunError,
    LeaseError,
    LostLeaseError,
    ParkedError,
    PipelineError,
    StopRunError,
    without_frames,
)
from tasks.core.reporting.report import RunReport

_NAMES: tuple[tuple[type[StopRunError], str], ...] = (
    (BudgetError, "BudgetExhausted"),
    (ParkedError, "Parked"),
    (InterruptedRunError, "Interrupted"),
    (LostLeaseError, "Interrupted"),
    (StopRunError, "Stopped"),
)
"""Of type Failed, so that callers, hooks and automations see that not every row has its summary."""


def completed(report: RunReport) -> State[Any]:
    """Every row has an outcome, and every partition is published."""
    return Completed(message=report.headline, data=report)


def failed(error: PipelineError) -> State[Any]:
    """The run did not do all of its work; the error says what to do next.

    A run that found the lease held is cancelled, not failed: the other run does its work.
    """
    if isinstance(error, LeaseError):
        return Cancelled(name="Overlap", message=sentence(error), data=error)
    name = next((name for kind, name in _NAMES if isinstance(error, kind)), None)
    return Failed(name=name or "Failed", message=sentence(error), data=without_frames(error))


def sentence(error: PipelineError) -> str:
    """The error's message, with the counts if it stopped a run that had begun."""
    text = str(error)
    if isinstance(error, ParkedError) and error.wait_s:
        back = datetime.now(UTC) + timedelta(seconds=error.wait_s)
        text += f" It serves again after {back:%Y-%m-%d %H:%M} UTC."
    if isinstance(error, StopRunError) and error.report:
        text += f" So far: {error.report.headline}."
    return text
