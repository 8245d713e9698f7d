"""A worker: the gateway, ledger and results that one process uses for a run, built from a ``RunSpec``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tasks.core.errors import PipelineError, StopRunError
from tasks.core.job import Job, prepare
from tasks.core.ledger.ledger import Ledger
from tasks.core.llm.budget import budget_of
from tasks.core.model import Partition
from tasks.core.partition import summarize_partition
from tasks.core.planning.grouping import Group
from tasks.core.progress import Progress
from tasks.core.reporting.partition_span import add_counts, partition_span
from tasks.core.reporting.report import PartitionReport
from tasks.core.reporting.results import Results
from tasks.core.rows.gateway import Gateway
from tasks.core.rows.gateway_factory import open_gateway
from tasks.core.run.spec import RunSpec
from tasks.core.settings import Settings

OnPublished = Callable[[PartitionReport], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """What one process needs to work on partitions of a run; its owner enters the ledger, then the gateway.

    Attributes:
        spec: The run.
        job: What all partitions of the run have in common.
        gateway: Sends requests.
        ledger: Records replies.
        progress: Counts rows; called by the gateway and the ledger.
        results: Results of partitions, so that a retried task repeats only those that failed transiently.
    """

    spec: RunSpec
    job: Job
    gateway: Gateway
    ledger: Ledger
    progress: Progress
    results: Results

    def summarize(
        self, group: Group, on_published: OnPublished = lambda _: None
    ) -> Mapping[str, PartitionReport | PipelineError]:
        """Work on the partitions of a group that have no final result; blocks until they have ended.

        A partition that fails does not end the group, unless the error stops the run.

        Args:
            group: One partition, or a few small ones.
            on_published: Called with the report of each partition that is published.

        Returns:
            The results by partition key, those of earlier attempts included.
        """
        for partition in group.partitions:
            if self.results.is_final(partition):
                continue
            result = self._summarize(partition)
            self.results.record(partition, result)
            if isinstance(result, StopRunError):
                break
            if isinstance(result, PartitionReport):
                on_published(result)
        return self.results.of(group.partitions)

    def _summarize(self, partition: Partition) -> PartitionReport | Exception:
        try:
            # After a stop, a retried task must not wait for a store that hangs.
            self.gateway.check()
            with partition_span(partition.key) as span:
                report = summarize_partition(partition, self.job, self.gateway, self.ledger)
                add_counts(span, report)
        except Exception as error:  # noqa: BLE001 - recorded; one failed partition does not fail the others
            return error
        return report


def job_of(spec: RunSpec, settings: Settings | None = None) -> Job:
    """Resolve and check what a spec names.

    Args:
        spec: The run.
        settings: How to reach the deployment; by default from the spec and the environment, without the key.

    Raises:
        InputError: A URL cannot be opened, or source and destination overlap.
    """
    return prepare(
        spec.source,
        spec.destination,
        spec.text_column,
        prompt=spec.prompt,
        model=spec.model,
        output=spec.output,
        prices=spec.prices,
        settings=settings or Settings.from_environment(**spec.settings),
    )


def new_worker(spec: RunSpec, settings: Settings) -> Worker:
    """Build a worker; sends and reads nothing yet.

    Args:
        spec: The run.
        settings: How to reach the deployment, with the key.

    Raises:
        InputError: What was chosen for the run cannot be done.
    """
    job, progress = job_of(spec, settings), Progress()
    budget = budget_of(spec.limits, job.price, job.request)
    return Worker(
        spec=spec,
        job=job,
        gateway=open_gateway(settings, job.request, spec.limits, budget, progress),
        ledger=Ledger(
            job.destination, progress.advance, fingerprint=job.request.fingerprint, earlier=job.earlier
        ),
        progress=progress,
        results=Results(),
    )
