"""The task that summarizes partitions, with retries for those that may succeed when tried again."""

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from tasks.core.errors import StopRunError, TransientError
from tasks.core.job import Job
from tasks.core.ledger.ledger import Ledger
from tasks.core.model import Partition
from tasks.core.partition import summarize_partition
from tasks.core.planning.grouping import Group
from tasks.core.reporting.partition_span import add_counts, partition_span
from tasks.core.reporting.results import Results
from tasks.core.rows.gateway import Gateway
from tasks.events import tell_published

_RETRY_DELAYS_S = [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 200.0]
"""Before each retry of a partition; the last one also before all further retries.

Each is varied at random by up to a half, so that partitions which failed together do not come back together.
The longest is thus 5 minutes. Waiting longer would spare a store that is away for hours a few
requests a partition, and let the run idle for as long after the store is back; waiting less would use up the
three retries of the default within a short outage. Doubled without a limit, the twentieth would be 30 days.
"""


def is_transient(task: Task[..., object], run: TaskRun, state: State[object]) -> bool:  # noqa: ARG001 - Prefect's
    """Whether a failed partition may succeed when tried again."""
    return isinstance(state.result(raise_on_failure=False), TransientError)


def with_retries(retries: int) -> Task[[Group, Job, Gateway, Ledger, Results], None]:
    """The task, retried that often: after 5 seconds, then 10, 20, ..., and at most 5 minutes."""
    return summarize_group.with_options(retries=retries, retry_delay_seconds=_RETRY_DELAYS_S[:retries])


@task(
    name="summarize-partition",
    task_run_name="summarize {group}",
    cache_policy=NO_CACHE,
    retry_jitter_factor=0.5,
    retry_condition_fn=is_transient,
)
def summarize_group(group: Group, job: Job, gateway: Gateway, ledger: Ledger, results: Results) -> None:
    """Summarize a partition, or a few small ones; blocks while the gateway's loop does the waiting.

    A partition that fails keeps no other from its turn. Tried again, only those are worked on that failed and
    may succeed now.

    Raises:
        Exception: What a partition of the group failed with; one that may succeed later comes first.
    """
    # A run that was told to stop does not wait, retry after retry, for a store that hangs.
    gateway.check()
    errors = [
        error
        for partition in group.partitions
        if not results.is_settled(partition)
        and (error := _summarize(partition, job, gateway, ledger, results)) is not None
    ]
    for error in sorted(errors, key=lambda one: not isinstance(one, TransientError)):
        raise error


def _summarize(
    partition: Partition, job: Job, gateway: Gateway, ledger: Ledger, results: Results
) -> Exception | None:
    """Summarize one partition and tell the results; returns what it failed with.

    Raises:
        StopRunError: No partition would be served.
    """
    try:
        with partition_span(partition.key) as span:
            report = summarize_partition(partition, job, gateway, ledger)
            add_counts(span, report)
    except StopRunError as error:
        results.tell(partition, error)
        raise
    except Exception as error:  # noqa: BLE001 - one bad partition is one bad partition; raised after the others
        results.tell(partition, error)
        return error
    results.tell(partition, report)
    tell_published(report)
    return None
