"""Counts of rows by status, and of requests and tokens; both add up."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields

from tasks.core.model import Outcome, Status

_KNOWN = frozenset(status.value for status in Status)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Counts over rows; tallies add up with ``+``.

    Attributes:
        ok: Rows with this status; the next six attributes are the same for other statuses.
        other: Rows with a status of a later version of this program.
        requests: Attempts, including rejected and unsent ones; ``Bill.sent`` counts the sent requests.
        lost_replies: Requests whose reply never arrived; the provider may bill them.
        prompt_tokens: Billed prompt tokens, without those of reused replies.
        completion_tokens: Billed completion tokens, without those of reused replies.
        reused: Rows with a reply that was paid for earlier or for an equal row.
        reused_prompt_tokens: Prompt tokens of the reused replies.
        reused_completion_tokens: Completion tokens of the reused replies.
    """

    ok: int = 0
    empty: int = 0
    truncated: int = 0
    filtered: int = 0
    refused: int = 0
    too_long: int = 0
    failed: int = 0
    other: int = 0
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
            status = outcome.status.value
            counts[status if status in _KNOWN else "other"] += 1
            counts["requests"] += outcome.requests
            counts["lost_replies"] += outcome.lost_replies
            counts["reused"] += outcome.reused
            paid = "reused_" if outcome.reused else ""
            counts[f"{paid}prompt_tokens"] += outcome.prompt_tokens or 0
            counts[f"{paid}completion_tokens"] += outcome.completion_tokens or 0
        return cls(**counts)

    @property
    def rows(self) -> int:
        """Number of rows counted."""
        return sum(self.by_status.values()) + self.other

    @property
    def by_status(self) -> dict[Status, int]:
        """Rows per status, in the order of ``Status``."""
        return {status: getattr(self, status.value) for status in Status}

    def __add__(self, other: "Tally") -> "Tally":
        """The sum of two tallies."""
        return Tally(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Tally)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """Requests of a run and the tokens billed for them, including those for rows that failed.

    Attributes:
        sent: HTTP requests sent; each was answered, refused or lost.
        answered: Requests with a final answer for their row.
        refused: Requests that the deployment rejected: rate limit, fault, wrong settings. Not billed.
        lost: Requests whose reply never arrived; the provider may bill them, and their retries too.
        retried: Requests that repeat a refused or lost one.
        unsent: Attempts without a request: no connection, no token, or a text that cannot be encoded.
        prompt_tokens: Prompt tokens, as stated by the replies.
        completion_tokens: Completion tokens, as stated by the replies.
        cached_tokens: Prompt tokens that the deployment had in its cache.
    """

    sent: int = 0
    answered: int = 0
    refused: int = 0
    lost: int = 0
    retried: int = 0
    unsent: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    @property
    def tokens(self) -> tuple[int, int]:
        """Prompt tokens and completion tokens."""
        return self.prompt_tokens, self.completion_tokens

    def __add__(self, other: "Bill") -> "Bill":
        """The sum of two bills."""
        return Bill(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Bill)})
