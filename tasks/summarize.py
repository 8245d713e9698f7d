"""The task that summarizes one partition, with retries for what may succeed when tried again."""

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import exponential_backoff

from tasks.core.errors import TransientError
from tasks.core.gateway import Gateway
from tasks.core.job import Job
from tasks.core.ledger import Ledger
from tasks.core.model import Partition
from tasks.core.partition import summarize_partition
from tasks.core.report import PartitionReport

_FIRST_RETRY_S = 5


def is_transient(task: Task[..., object], run: TaskRun, state: State[object]) -> bool:  # noqa: ARG001 - Prefect's
    """Whether a failed partition may succeed when tried again."""
    return isinstance(state.result(raise_on_failure=False), TransientError)


def with_retries(retries: int) -> Task[[Partition, Job, Gateway, Ledger], PartitionReport]:
    """The task, tried again that often: 5 seconds later, then 10, 20, ..., each up to half as long again."""
    # Prefect works out the delays when it is told the retries, so both are told together.
    return summarize_one.with_options(
        retries=retries, retry_delay_seconds=exponential_backoff(_FIRST_RETRY_S)
    )


@task(
    name="summarize-partition",
    task_run_name="summarize {partition.key}",
    cache_policy=NO_CACHE,
    retry_jitter_factor=0.5,
    retry_condition_fn=is_transient,
)
def summarize_one(partition: Partition, job: Job, gateway: Gateway, ledger: Ledger) -> PartitionReport:
    """Summarize one partition; blocks while the gateway's loop does the waiting."""
    # A run that was told to stop does not wait, retry after retry, for a store that hangs.
    gateway.check()
    return summarize_partition(partition, job, gateway, ledger)
