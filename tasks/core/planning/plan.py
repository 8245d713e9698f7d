"""What a run would do, and what that would cost: records and sums, nothing is read here.

Every row of a partition that runs is one of five: empty, paid for, equal to a row of the same partition,
equal to a row of another one, or to be requested.
"""

from dataclasses import dataclass

from tasks.core.model import LeftOut, OpenStrEnum
from tasks.core.planning.sampling import Estimate, Range
from tasks.core.pricing import Price


class Why(OpenStrEnum):
    """Why a partition runs or does not; in the words people read."""

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
    def runs(self) -> bool:
        """The partition is worked on."""
        return self not in {Why.FINISHED, Why.LEFT}


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionPlan:
    """What a run would do with one partition; rows are counted of those that run.

    Attributes:
        key: Which one.
        why: Why it runs, or does not.
        rows: Its rows; None for one that is left, which nobody has opened.
        empty: Rows that are never sent: null, blank, not valid UTF-8.
        paid: Rows whose answer is in the ledger, or in the earlier output.
        equal_in_partition: Rows that share the answer of an equal row of this partition ...
        equal_in_run: ... or of a partition before it.
        requests: Rows to be requested.
        prompt: Prompt tokens of these requests.
        sampled: Rows whose tokens were counted.
    """

    key: str
    why: Why
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
    """What turns requests into tokens and dollars.

    Attributes:
        tokenizer: The vocabulary prompt tokens were counted with.
        tokenizer_is_assumed: Nobody knows whether it is the model's.
        completion_tokens: Likely tokens of a reply.
        observed_replies: Replies to this very request that the likely number is the mean of; 0 for a guess.
        max_output_tokens: The longest reply.
        price: What tokens cost; None when nobody knows.
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
        source: Where the partitions are, as a URL.
        destination: Where they would be published, as a URL.
        partitions: One plan each, in the order of their keys.
        left_out: Names under the source that are not partitions.
        rates: What turns requests into tokens and dollars.
        gone: Keys of outputs whose source partition is gone; None when that cannot be known.
        prunes: Whether the run would remove them.
    """

    source: str
    destination: str
    partitions: tuple[PartitionPlan, ...]
    left_out: LeftOut = LeftOut()
    rates: Rates = Rates()
    gone: tuple[str, ...] | None = None
    prunes: bool = False

    @property
    def running(self) -> tuple[PartitionPlan, ...]:
        """The partitions that would be worked on."""
        return tuple(partition for partition in self.partitions if partition.why.runs)

    def prompt_tokens(self, *partitions: PartitionPlan) -> Range:
        """Prompt tokens of some partitions, without what is sent again after failures."""
        return sum((partition.prompt for partition in partitions), Estimate()).range

    def completion_tokens(self, *partitions: PartitionPlan) -> Range:
        """Completion tokens of some partitions: from nothing at all to the longest reply, every time."""
        requests = sum(partition.requests for partition in partitions)
        rates = self.rates
        return Range(0.0, requests * rates.completion_tokens, float(requests * rates.max_output_tokens))

    def cost_usd(self, *partitions: PartitionPlan) -> Range | None:
        """US dollars for some partitions by the price list; None when nobody knows."""
        price = self.rates.price
        if price is None:
            return None
        sent, received = self.prompt_tokens(*partitions), self.completion_tokens(*partitions)
        return Range(
            price.cost_usd(sent.low, received.low),
            price.cost_usd(sent.likely, received.likely),
            price.cost_usd(sent.high, received.high),
        )
