"""The task that publishes the run's report on Prefect's page."""

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from tasks.core.rendering import to_markdown
from tasks.core.report import RunReport

ARTIFACT_KEY = "summarize-parquet"


@task(name="publish-report", cache_policy=NO_CACHE)
def publish_report(report: RunReport) -> None:
    """Publish the report as one artifact; its versions are the history of the runs."""
    create_markdown_artifact(to_markdown(report), key=ARTIFACT_KEY, description=report.headline)
