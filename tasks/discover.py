"""The Prefect task that finds and checks the partitions that need work."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.model import Plan
from tasks.core.planning.partition_status import find_work
from tasks.core.run.spec import RunSpec
from tasks.core.run.worker import job_of


@task(name="find-partitions", cache_policy=NO_CACHE)
def find_partitions(spec: RunSpec) -> Plan:
    """List the source, skip finished and excluded partitions, and check the others; sends no request."""
    return find_work(job_of(spec), spec.run)
