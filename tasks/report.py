"""The Prefect task that publishes the run's report as artifacts."""

import re
from base64 import b64encode
from collections.abc import Sequence

from prefect import task
from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.runtime import deployment

from tasks.core.reporting.charts import timeline
from tasks.core.reporting.rendering import to_markdown, to_rows
from tasks.core.reporting.report import RunReport

_KEY = "summarize-parquet"
_MAX_PARTITIONS_SHOWN = 1000
"""Rows of the table artifact. Prefect stores an artifact as one JSON value, and its page renders all of it:
more rows would make both slow, and the report in the destination lists all. Not measured."""


def retry_command() -> str:
    """The command that retries this run; empty if a person's own command or call started it."""
    # Not from `prefect.runtime`, which requests it from the server, and that may be gone by now.
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    return f"prefect flow-run retry {run.id}" if run and run.deployment_id else ""


@task(name="publish-report", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=5)
def publish_report(report: RunReport, files: Sequence[str]) -> None:
    """Publish the report as artifacts of the deployment; their versions are the history of its runs."""
    key = artifact_key(deployment.name)
    create_markdown_artifact(
        to_markdown(report, retry_command(), files), key=key, description=report.headline
    )
    rows = to_rows(report)
    shown = f", of which {_MAX_PARTITIONS_SHOWN} are shown" if len(rows) > _MAX_PARTITIONS_SHOWN else ""
    create_table_artifact(
        rows[:_MAX_PARTITIONS_SHOWN],
        key=f"{key}-partitions",
        description=f"{len(rows)} partitions{shown}; those that need attention first.",
    )
    picture = b64encode(timeline(report.metrics.series).encode()).decode()
    create_image_artifact(
        f"data:image/svg+xml;base64,{picture}",
        key=f"{key}-timeline",
        description="Rows per second, requests in flight, and errors, over the time of the run.",
    )


def artifact_key(name: str | None) -> str:
    """A deployment's name as artifacts may be called: small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", (name or "").lower()).strip("-") or _KEY
