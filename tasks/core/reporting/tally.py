"""Counts that add up: rows by how they ended, and what was sent for them."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields

from tasks.core.model import Outcome, Status

_KNOWN = frozenset(status.value for status in Status)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Counts over rows; tallies add up with ``+``.

    Attributes:
        ok: Rows with this status; the same for the six that follow.
        other: Rows with a status that this version does not know.
        requests: Attempts made, rejected ones included; the bill says how many were sent.
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
        """All rows counted."""
        return sum(self.by_status.values()) + self.other

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
        retried: Those of the requests that repeat one which was refused or lost.
        unsent: Attempts that found no connection or no token, or a text that cannot be sent; no requests.
        prompt_tokens: Tokens sent, as the replies say.
        completion_tokens: Tokens received, as the replies say.
        cached_tokens: Those of the prompt tokens the deployment had in its cache.
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
        """Tokens sent and received."""
        return self.prompt_tokens, self.completion_tokens

    def __add__(self, other: "Bill") -> "Bill":
        """The sum of two bills."""
        return Bill(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Bill)})
