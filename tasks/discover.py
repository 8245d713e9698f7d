"""The Prefect task that finds and checks the partitions that need work."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.job import Job
from tasks.core.model import Plan
from tasks.core.options import RunOptions
from tasks.core.planning.partition_status import find_work


@task(name="find-partitions", cache_policy=NO_CACHE)
def find_partitions(job: Job, run: RunOptions) -> Plan:
    """List the source, skip finished and excluded partitions, and check the others; sends no request."""
    return find_work(job, run)
