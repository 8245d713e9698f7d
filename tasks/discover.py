"""The task that finds and checks what there is to do."""

from dataclasses import replace

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.job import Job
from tasks.core.model import Plan
from tasks.core.options import RunOptions
from tasks.core.plan import Why
from tasks.core.preflight import preflight
from tasks.core.standing import look


@task(name="find-partitions", cache_policy=NO_CACHE)
def find_partitions(job: Job, run: RunOptions) -> Plan:
    """List the source, leave out what is finished or not asked for, and check the others; spends nothing."""
    standing = look(job, run)
    return replace(
        preflight(standing.todo, job),
        finished=standing.partitions(Why.FINISHED),
        left=standing.partitions(Why.LEFT),
        gone=standing.gone,
    )
