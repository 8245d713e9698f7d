"""The report of a run: one per partition, and one of the whole.

Small, immutable and free of row text, so it may be returned, stored and shown. How it is shown is
``rendering``'s to know.
"""

from dataclasses import dataclass

from tasks.core.model import LeftOut, OpenStrEnum
from tasks.core.planning.plan import RunPlan
from tasks.core.pricing import Price
from tasks.core.reporting.histogram import Histograms
from tasks.core.reporting.series import Pulse
from tasks.core.reporting.tally import Bill, Tally


class PartitionState(OpenStrEnum):
    """How a partition ended."""

    PUBLISHED = "published"
    SKIPPED = "skipped"
    FAILED = "failed"
    UNFINISHED = "unfinished"
    LEFT = "left"
    PLANNED = "planned"


@dataclass(frozen=True, slots=True)
class FailedRow:
    """A row that ended as failed: its place in the partition, counted from 0, and why."""

    row: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionReport:
    """What happened to one partition.

    Attributes:
        key: Which one.
        state: ``published``; ``skipped``, because an earlier output is complete and its source unchanged;
            ``failed``; ``unfinished``, because the run stopped first (in these two an earlier output is
            untouched); ``left`` for another run, by the options of this one; or ``planned``, in a dry run.
        tally: Its rows, requests and tokens.
        seconds: Wall time from opening to publishing.
        error: Why it failed; None when it was published.
        failures: Its first failed rows and why, counted from 0.
        bytes_read: Bytes of the source that came to this machine.
        bytes_copied: Bytes of the source that the store or the disk copied by itself.
        bytes_uploaded: Bytes that were sent to the destination.
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
class Observed:
    """What was seen of a run while it ran.

    Attributes:
        series: Its pulse, once a second or less often, in order; at most some hundreds.
        requests: What its answered requests took.
    """

    series: tuple[Pulse, ...] = ()
    requests: Histograms = Histograms()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """What happened in one run; small, and free of row text.

    Attributes:
        source: Where the partitions were read, as a URL.
        destination: Where they were published, as a URL.
        partitions: One report each, in the order of their keys.
        left_out: Names under the source that are not partitions.
        seconds: Wall time of the run.
        bill: What was sent to the deployment and received, by this run alone.
        price: What tokens cost; None when it is unknown.
        gone: Keys of outputs whose source partition is gone; None when that cannot be known.
        pruned: Those of them that were removed.
        plan: What a run would do; of a dry run.
        observed: What was seen of it while it ran.
    """

    source: str
    destination: str
    partitions: tuple[PartitionReport, ...]
    left_out: LeftOut
    seconds: float
    bill: Bill = Bill()
    price: Price | None = None
    gone: tuple[str, ...] | None = None
    pruned: tuple[str, ...] = ()
    plan: RunPlan | None = None
    observed: Observed = Observed()

    @property
    def cost_usd(self) -> float | None:
        """What the answers cost by the price list; None when it is unknown."""
        return None if self.price is None else self.price.cost_usd(*self.bill.tokens)

    @property
    def saved_usd(self) -> float | None:
        """What reused answers would have cost; None when it is unknown."""
        if self.price is None:
            return None
        tally = self.tally
        return self.price.cost_usd(tally.reused_prompt_tokens, tally.reused_completion_tokens)

    @property
    def tally(self) -> Tally:
        """All partitions together."""
        return sum((partition.tally for partition in self.partitions), Tally())

    @property
    def rows_per_s(self) -> float:
        """Rows that got an outcome, those of unfinished partitions too, per second."""
        seen = self.observed.series[-1].rows if self.observed.series else 0
        return max(seen, self.tally.rows) / self.seconds if self.seconds else 0.0

    @property
    def failed_partitions(self) -> tuple[PartitionReport, ...]:
        """The partitions that could not be published."""
        return self.in_state(PartitionState.FAILED)

    @property
    def skipped_partitions(self) -> tuple[PartitionReport, ...]:
        """The partitions that were finished before this run."""
        return self.in_state(PartitionState.SKIPPED)

    @property
    def unfinished_partitions(self) -> tuple[PartitionReport, ...]:
        """The partitions the run did not come to, or not to the end of."""
        return self.in_state(PartitionState.UNFINISHED)

    def in_state(self, state: PartitionState) -> tuple[PartitionReport, ...]:
        """The partitions that ended like this."""
        return tuple(partition for partition in self.partitions if partition.state is state)

    @property
    def succeeded(self) -> bool:
        """Every partition is published and every row has an outcome other than failed."""
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
