"""The task that finds and checks what there is to do."""

from dataclasses import replace

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.discovery import discover
from tasks.core.job import Job
from tasks.core.model import Plan
from tasks.core.outputs import finished
from tasks.core.preflight import preflight


@task(name="find-partitions", cache_policy=NO_CACHE)
def find_partitions(job: Job) -> Plan:
    """List the source, leave out what is finished, and check the others by their footers; spends nothing."""
    found = discover(job.pattern)
    done = finished(found.partitions, job)
    todo = replace(found, partitions=tuple(p for p in found.partitions if p not in done))
    plan = preflight(todo, job)
    return replace(plan, finished=tuple(p for p in found.partitions if p in done))
