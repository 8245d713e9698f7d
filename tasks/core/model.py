"""The frozen records that travel between rooms.

No behaviour beyond adding up: a record says what is, and the rooms decide what to do with it. Every record
is immutable, small, and pickles, so it may cross threads, processes and Prefect's states.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import StrEnum

from tasks.core.prices import Price

Text = str | bytes | None
"""A row's text: None when it is null, raw bytes when it is not valid UTF-8."""


class Status(StrEnum):
    """What a row ended with."""

    OK = "ok"
    EMPTY = "empty"
    TRUNCATED = "truncated"
    FILTERED = "filtered"
    REFUSED = "refused"
    TOO_LONG = "too_long"
    FAILED = "failed"

    @property
    def is_answered(self) -> bool:
        """The deployment gave its final answer: it is paid for, kept, and never asked for again."""
        return self not in {Status.EMPTY, Status.FAILED}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one row ended with, and what it took.

    Attributes:
        status: How the row ended.
        text: The summary; None unless the model wrote one.
        error: Why there is no complete summary, in words and codes, never with the row's text.
        model: The model that answered, as the deployment names it.
        prompt_tokens: Tokens billed for the request that was answered.
        completion_tokens: Tokens billed for its reply.
        requests: HTTP requests sent for this row, rejected ones included.
        lost_replies: Requests whose reply never arrived; they may be on the bill.
        reused: The answer was paid for earlier, or for another row; its tokens are those of that request.
        cached_tokens: Prompt tokens the deployment had in its cache.
    """

    status: Status
    text: str | None = None
    error: str | None = None
    model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    requests: int = 0
    lost_replies: int = 0
    reused: bool = False
    cached_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Counts over rows; tallies add up with ``+``.

    Attributes:
        ok: Rows with this status; the same for the six that follow.
        requests: HTTP requests sent, rejected ones included.
        lost_replies: Requests whose reply never arrived; they may be on the bill.
        prompt_tokens: Tokens sent, as billed; those of reused answers are not among them.
        completion_tokens: Tokens received, as billed; the same.
        reused: Rows whose answer was paid for earlier, or for another row ...
        reused_prompt_tokens: ... and the tokens that were not sent for them ...
        reused_completion_tokens: ... or received.
    """

    ok: int = 0
    empty: int = 0
    truncated: int = 0
    filtered: int = 0
    refused: int = 0
    too_long: int = 0
    failed: int = 0
    requests: int = 0
    lost_replies: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reused: int = 0
    reused_prompt_tokens: int = 0
    reused_completion_tokens: int = 0

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> "Tally":
        """Count outcomes."""
        counts: Counter[str] = Counter()
        for outcome in outcomes:
            counts[outcome.status.value] += 1
            counts["requests"] += outcome.requests
            counts["lost_replies"] += outcome.lost_replies
            counts["reused"] += outcome.reused
            paid = "reused_" if outcome.reused else ""
            counts[f"{paid}prompt_tokens"] += outcome.prompt_tokens or 0
            counts[f"{paid}completion_tokens"] += outcome.completion_tokens or 0
        return cls(**counts)

    @property
    def rows(self) -> int:
        """All rows counted."""
        return sum(self.by_status.values())

    @property
    def by_status(self) -> dict[Status, int]:
        """Rows per status, in the order of ``Status``."""
        return {status: getattr(self, status.value) for status in Status}

    def __add__(self, other: "Tally") -> "Tally":
        """Both together."""
        return Tally(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Tally)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What a run sent to the deployment and got for it, whatever became of the rows.

    Attributes:
        sent: HTTP requests; each was answered, refused or lost.
        answered: Requests with a final answer for their row.
        refused: Requests the deployment turned down: limits, faults, wrong settings. Not billed.
        lost: Requests whose reply never arrived; they may be billed, and billed again for their repetition.
        prompt_tokens: Tokens sent, as the answers tell.
        completion_tokens: Tokens received, as the answers tell.
        cached_tokens: Those of the prompt tokens the deployment had in its cache.
    """

    sent: int = 0
    answered: int = 0
    refused: int = 0
    lost: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Partition:
    """One Parquet file of the source.

    Attributes:
        key: Its path relative to the source, with ``/`` between folders; the same in the destination.
        path: Its path as the source's filesystem knows it.
        size_bytes: Its size when it was listed.
        version: What changes when its bytes do: the store's ETag, or the modification time.
    """

    key: str
    path: str
    size_bytes: int
    version: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Names under the source that are not partitions.

    Attributes:
        hidden: Names with a part that starts with ``_`` or ``.``.
        other_files: Visible files that are not ``*.parquet``.
    """

    hidden: int = 0
    other_files: int = 0


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was found under a source, partitions in the order of their keys."""

    partitions: tuple[Partition, ...]
    left_out: LeftOut


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do: every partition passed the preflight.

    Attributes:
        partitions: What to summarize, in order.
        rows: Rows in all of them together.
        left_out: What was seen and left alone.
        finished: What is published already and needs no work, in order.
    """

    partitions: tuple[Partition, ...]
    rows: int
    left_out: LeftOut
    finished: tuple[Partition, ...] = ()


class PartitionState(StrEnum):
    """How a partition ended."""

    PUBLISHED = "published"
    SKIPPED = "skipped"
    FAILED = "failed"


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
        state: ``published``; ``skipped``, because an earlier output is complete and its source unchanged; or
            ``failed``, in which case an earlier output is untouched.
        tally: Its rows, requests and tokens.
        seconds: Wall time from opening to publishing.
        error: Why it failed; None when it was published.
        failures: Its first failed rows and why, counted from 0.
    """

    key: str
    state: PartitionState
    tally: Tally = Tally()
    seconds: float = 0.0
    error: str | None = None
    failures: tuple[FailedRow, ...] = ()


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
        price: What tokens cost; None when nobody knows.
    """

    source: str
    destination: str
    partitions: tuple[PartitionReport, ...]
    left_out: LeftOut
    seconds: float
    bill: Bill = Bill()
    price: Price | None = None

    @property
    def cost_usd(self) -> float | None:
        """What the answers cost by the price list; None when nobody knows."""
        bill = self.bill
        return None if self.price is None else self.price.cost_usd(bill.prompt_tokens, bill.completion_tokens)

    @property
    def saved_usd(self) -> float | None:
        """What reused answers would have cost; None when nobody knows."""
        if self.price is None:
            return None
        tally = self.tally
        return self.price.cost_usd(tally.reused_prompt_tokens, tally.reused_completion_tokens)

    @property
    def tally(self) -> Tally:
        """All partitions together."""
        return sum((partition.tally for partition in self.partitions), Tally())

    @property
    def failed_partitions(self) -> tuple[PartitionReport, ...]:
        """The partitions that were not published."""
        return tuple(p for p in self.partitions if p.state is PartitionState.FAILED)

    @property
    def skipped_partitions(self) -> tuple[PartitionReport, ...]:
        """The partitions that were finished before this run."""
        return tuple(p for p in self.partitions if p.state is PartitionState.SKIPPED)

    @property
    def succeeded(self) -> bool:
        """Every partition is published and every row has an outcome other than failed."""
        return not self.failed_partitions and not self.tally.failed

    @property
    def headline(self) -> str:
        """The run in one line."""
        tally = self.tally
        skipped = len(self.skipped_partitions)
        before = f" ({skipped} finished before)" if skipped else ""
        return (
            f"{len(self.partitions)} partitions{before}, {tally.rows} rows: {tally.failed} rows and "
            f"{len(self.failed_partitions)} partitions failed, {self.bill.sent} requests, "
            f"{self.seconds:.1f} s"
        )
