"""The report of a run, with a report of each partition.

Small, immutable and without row text, so that it can be returned, stored and shown. ``rendering`` formats it.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from tasks.core.model import LeftOut, OpenStrEnum
from tasks.core.planning.plan import RunPlan
from tasks.core.pricing import Price
from tasks.core.reporting.histogram import Histograms
from tasks.core.reporting.series import Snapshot
from tasks.core.reporting.tally import Bill, Tally


class PartitionState(OpenStrEnum):
    """The state of a partition at the end of a run."""

    PUBLISHED = "published"
    SKIPPED = "skipped"
    FAILED = "failed"
    UNFINISHED = "unfinished"
    LEFT = "left"
    PLANNED = "planned"


@dataclass(frozen=True, slots=True)
class FailedRow:
    """A failed row: its index in the partition, counted from 0, and why it failed."""

    row: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionReport:
    """The report of one partition.

    Attributes:
        key: The partition's key.
        state: ``published``; ``skipped``, because an earlier output is complete and its source unchanged;
            ``failed``; ``unfinished``, because the run stopped first (in these two an earlier output is
            untouched); ``left`` for another run, by the options of this one; or ``planned``, in a dry run.
        tally: Its rows, requests and tokens.
        seconds: Wall time from opening to publishing.
        error: Why it failed; None if it was published.
        failures: Its first failed rows.
        bytes_read: Bytes of the source that this machine read.
        bytes_copied: Bytes of the source that the store or the disk copied without this machine reading them.
        bytes_uploaded: Bytes that this machine wrote to the destination.
    """

    key: str
    state: PartitionState
    tally: Tally = Tally()
    seconds: float = 0.0
    error: str | None = None
    failures: tuple[FailedRow, ...] = ()
    bytes_read: int = 0
    bytes_copied: int = 0
    bytes_uploaded: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMetrics:
    """Measurements of a run over time.

    Attributes:
        series: Snapshots in order, taken once a second or less often; at most 600.
        requests: Latency and tokens of the answered requests.
    """

    series: tuple[Snapshot, ...] = ()
    requests: Histograms = Histograms()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """The report of one run.

    Attributes:
        source: URL of the folder, glob or file that the partitions were read from.
        destination: URL of the folder they were published in.
        partitions: One report per partition, in the order of their keys.
        left_out: Names under the source that are not partitions.
        seconds: Wall time of the run.
        bill: Requests and tokens of this run.
        price: Price of tokens; None when it is unknown.
        orphans: Keys of outputs whose source partition was deleted, ``gone`` in JSON; None when this cannot
            be determined.
        pruned: Keys of the orphaned outputs that the run removed.
        plan: The plan that a dry run made; None for other runs.
        metrics: Measurements over time; ``observed`` in JSON.
    """

    source: str
    destination: str
    partitions: tuple[PartitionReport, ...]
    left_out: LeftOut
    seconds: float
    bill: Bill = Bill()
    price: Price | None = None
    orphans: Annotated[tuple[str, ...] | None, Field(alias="gone")] = None
    pruned: tuple[str, ...] = ()
    plan: RunPlan | None = None
    metrics: Annotated[RunMetrics, Field(alias="observed")] = RunMetrics()

    @property
    def cost_usd(self) -> float | None:
        """Cost of the replies by list price; None when the price is unknown."""
        return None if self.price is None else self.price.cost_usd(*self.bill.tokens)

    @property
    def saved_usd(self) -> float | None:
        """Cost saved by reusing replies; None when the price is unknown."""
        if self.price is None:
            return None
        tally = self.tally
        return self.price.cost_usd(tally.reused_prompt_tokens, tally.reused_completion_tokens)

    @property
    def tally(self) -> Tally:
        """The sum over all partitions."""
        return sum((partition.tally for partition in self.partitions), Tally())

    @property
    def rows_per_s(self) -> float:
        """Rows with an outcome per second, including rows of unfinished partitions."""
        observed = self.metrics.series[-1].rows if self.metrics.series else 0
        return max(observed, self.tally.rows) / self.seconds if self.seconds else 0.0

    @property
    def failed_partitions(self) -> tuple[PartitionReport, ...]:
        """The partitions that failed."""
        return self.in_state(PartitionState.FAILED)

    @property
    def skipped_partitions(self) -> tuple[PartitionReport, ...]:
        """The partitions that were finished before this run."""
        return self.in_state(PartitionState.SKIPPED)

    @property
    def unfinished_partitions(self) -> tuple[PartitionReport, ...]:
        """The partitions that the run did not start or did not finish."""
        return self.in_state(PartitionState.UNFINISHED)

    def in_state(self, state: PartitionState) -> tuple[PartitionReport, ...]:
        """The partitions with this state."""
        return tuple(partition for partition in self.partitions if partition.state is state)

    @property
    def succeeded(self) -> bool:
        """Whether no row failed, and no partition failed or is unfinished."""
        return not self.failed_partitions and not self.unfinished_partitions and not self.tally.failed

    @property
    def headline(self) -> str:
        """The run in one line."""
        tally = self.tally
        skipped, unfinished = len(self.skipped_partitions), len(self.unfinished_partitions)
        before = f" ({skipped} finished before)" if skipped else ""
        left = len(self.in_state(PartitionState.LEFT))
        later = f", {left} of them left for another run" if left else ""
        undone = f", {unfinished} partitions unfinished" if unfinished else ""
        cost = "" if self.cost_usd is None else f", {self.cost_usd:.4f} USD"
        return (
            f"{len(self.partitions)} partitions{before}{later}, {tally.rows} rows: {tally.failed} rows and "
            f"{len(self.failed_partitions)} partitions failed{undone}, {self.bill.sent} requests{cost}, "
            f"{self.seconds:.1f} s"
        )
