"""The plan of a run: what it would do and what that would cost. Records and sums; reads nothing.

Every row of a selected partition is counted once: empty, paid for, equal to a row of the same partition,
equal to a row of another partition, or to be requested.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from tasks.core.model import LeftOut, OpenStrEnum
from tasks.core.planning.sampling import Estimate, Range
from tasks.core.pricing import Price


class Reason(OpenStrEnum):
    """Why a partition is processed by the run or skipped; the values are shown to the user."""

    NEW = "new"
    INTERRUPTED = "interrupted"
    SOURCE_CHANGED = "source changed"
    OTHER_SOURCE = "output of another source, to be replaced"
    REQUEST_CHANGED = "prompt, model or parameters changed"
    COLUMNS_CHANGED = "columns changed"
    FAILED_ROWS = "failed rows"
    TRUNCATED_ROWS = "rows cut at a smaller limit"
    NOT_OURS = "output unreadable or not made by this program"
    FINISHED = "finished"
    LEFT = "left for another run"

    @property
    def is_selected(self) -> bool:
        """Whether the run processes a partition with this reason."""
        return self not in {Reason.FINISHED, Reason.LEFT}


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionPlan:
    """What a run would do with one partition. Rows are counted for selected partitions only.

    Attributes:
        key: The partition's key.
        reason: Why the partition is selected, or is not; ``why`` in JSON.
        rows: Rows in the partition; None if it is left for another run, since it is not opened then.
        empty: Rows that are never sent: null, blank, not valid UTF-8.
        paid: Rows whose reply is in the ledger or in the earlier output.
        equal_in_partition: Rows that share the reply of an equal row of this partition.
        equal_in_run: Rows that share the reply of an equal row of an earlier partition.
        requests: Rows to be requested.
        prompt: Prompt tokens of these requests.
        sampled: Rows whose tokens were counted.
    """

    key: str
    reason: Annotated[Reason, Field(alias="why")]
    rows: int | None = None
    empty: int = 0
    paid: int = 0
    equal_in_partition: int = 0
    equal_in_run: int = 0
    requests: int = 0
    prompt: Estimate = Estimate()
    sampled: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Factors that convert requests into tokens and dollars.

    Attributes:
        tokenizer: Name of the vocabulary that prompt tokens were counted with.
        tokenizer_is_assumed: True when the model's own vocabulary is unknown.
        completion_tokens: Expected tokens of a reply.
        observed_replies: Earlier replies to the same request that ``completion_tokens`` is the mean of;
            0 if there are none and it is a guess.
        max_output_tokens: The largest reply the request allows.
        price: Price of tokens; None when it is unknown.
    """

    tokenizer: str = ""
    tokenizer_is_assumed: bool = False
    completion_tokens: float = 0.0
    observed_replies: int = 0
    max_output_tokens: int = 0
    price: Price | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """What a run would do.

    Attributes:
        source: URL of the folder, glob or file that holds the partitions.
        destination: URL of the folder they would be published in.
        partitions: One plan per partition, in the order of their keys.
        left_out: Names under the source that are not partitions.
        rates: Factors that convert requests into tokens and dollars.
        orphans: Keys of outputs whose source partition was deleted, ``gone`` in JSON; None when this cannot
            be determined.
        prunes: Whether the run would remove the orphaned outputs.
    """

    source: str
    destination: str
    partitions: tuple[PartitionPlan, ...]
    left_out: LeftOut = LeftOut()
    rates: Rates = Rates()
    orphans: Annotated[tuple[str, ...] | None, Field(alias="gone")] = None
    prunes: bool = False

    @property
    def selected(self) -> tuple[PartitionPlan, ...]:
        """The partitions that the run would process."""
        return tuple(partition for partition in self.partitions if partition.reason.is_selected)

    def prompt_tokens(self, *partitions: PartitionPlan) -> Range:
        """Prompt tokens of the given partitions; retries are not included."""
        return sum((partition.prompt for partition in partitions), Estimate()).range

    def completion_tokens(self, *partitions: PartitionPlan) -> Range:
        """Completion tokens of the given partitions; low: empty replies, high: all of maximum length."""
        requests = sum(partition.requests for partition in partitions)
        rates = self.rates
        return Range(0.0, requests * rates.completion_tokens, float(requests * rates.max_output_tokens))

    def cost_usd(self, *partitions: PartitionPlan) -> Range | None:
        """Cost of the given partitions in US dollars; None when the price is unknown."""
        price = self.rates.price
        if price is None:
            return None
        sent, received = self.prompt_tokens(*partitions), self.completion_tokens(*partitions)
        return Range(
            price.cost_usd(sent.low, received.low),
            price.cost_usd(sent.likely, received.likely),
            price.cost_usd(sent.high, received.high),
        )
