"""The Prefect task that summarizes partitions, with retries of those that may succeed later."""

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from tasks.core.errors import GroupError, TransientError
from tasks.core.planning.grouping import Group
from tasks.core.run import registry
from tasks.core.run.group_report import GroupReport
from tasks.core.run.spec import RunSpec
from tasks.credentials import run_settings
from tasks.events import emit_published

_RETRY_DELAYS_S = [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 200.0]
"""Before each retry of a partition; the last one also before all further retries.

Each is varied at random by up to a half, so that partitions that failed together are not retried together.
The longest is thus 5 minutes. Longer delays would spare a store that is unavailable for hours a few requests
a partition, and let the run idle for as long after the store has recovered; shorter ones would use up the
three retries of the default within a short outage. Doubled without a limit, the twentieth would be 30 days.
Not measured.
"""


def is_transient(task: Task[..., object], run: TaskRun, state: State[object]) -> bool:  # noqa: ARG001 - Prefect's
    """Whether a retry of a failed task may succeed."""
    error = state.result(raise_on_failure=False)
    return error.is_transient if isinstance(error, GroupError) else isinstance(error, TransientError)


def with_retries(retries: int) -> Task[[Group, RunSpec], GroupReport]:
    """The task with this many retries: after 5 seconds, then 10, 20, ..., and at most 5 minutes."""
    return summarize_group.with_options(retries=retries, retry_delay_seconds=_RETRY_DELAYS_S[:retries])


@task(
    name="summarize-partition",
    task_run_name="summarize {group}",
    cache_policy=NO_CACHE,
    retry_jitter_factor=0.5,
    retry_condition_fn=is_transient,
)
def summarize_group(group: Group, spec: RunSpec) -> GroupReport:
    """Summarize one partition or a few small ones; blocks until they have ended.

    A retry works only on the partitions that failed and may succeed now.

    Raises:
        GroupError: A partition failed; it carries the results of all of them.
    """
    report = registry.summarize_group(group, spec, run_settings, emit_published)
    report.raise_if_failed()
    return report
