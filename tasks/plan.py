"""The Prefect task that makes the plan of a run and publishes it as an artifact."""

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from tasks.core.planning.estimate import make_plan
from tasks.core.planning.plan import RunPlan
from tasks.core.planning.plan_view import headline, to_markdown
from tasks.core.run.spec import RunSpec
from tasks.core.run.worker import job_of

ARTIFACT_KEY = "summarize-parquet-plan"


@task(name="plan-run", cache_policy=NO_CACHE)
def plan_run(spec: RunSpec) -> RunPlan:
    """Estimate the work and the cost of a run and publish them; sends no request."""
    plan = make_plan(job_of(spec), spec.run)
    create_markdown_artifact(to_markdown(plan), key=ARTIFACT_KEY, description=headline(plan))
    return plan
