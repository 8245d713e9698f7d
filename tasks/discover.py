"""The task that finds and checks what there is to do."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.discovery import discover
from tasks.core.job import Job
from tasks.core.model import Plan
from tasks.core.preflight import preflight


@task(name="find-partitions", cache_policy=NO_CACHE)
def find_partitions(job: Job) -> Plan:
    """List the source and check every partition's footer; nothing is spent."""
    return preflight(discover(job.pattern), job)
