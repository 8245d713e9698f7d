"""The Prefect task that makes the plan of a run and publishes it as an artifact."""

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from tasks.core.job import Job
from tasks.core.options import RunOptions
from tasks.core.planning.estimate import make_plan
from tasks.core.planning.plan import RunPlan
from tasks.core.planning.plan_view import headline, to_markdown

ARTIFACT_KEY = "summarize-parquet-plan"


@task(name="plan-run", cache_policy=NO_CACHE)
def plan_run(job: Job, run: RunOptions) -> RunPlan:
    """Estimate the work and the cost of a run and publish them; sends no request."""
    plan = make_plan(job, run)
    create_markdown_artifact(to_markdown(plan), key=ARTIFACT_KEY, description=headline(plan))
    return plan
