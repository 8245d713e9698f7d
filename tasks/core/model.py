"""The frozen records that travel between rooms: rows' outcomes, partitions, plans.

No behaviour: a record says what is, and the rooms decide what to do with it. Every record is immutable,
small, and pickles, so it may cross threads, processes and Prefect's states. What adds up is in ``tally``,
what a run tells at its end in ``report``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

Text = str | bytes | None
"""A row's text: None when it is null, raw bytes when it is not valid UTF-8."""


class OpenStrEnum(StrEnum):
    """Words of which a later version of this program may have written others: those are kept as they are."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        # A member that is not listed: it compares, hashes and pickles by its value.
        member = str.__new__(cls, value)
        member._name_ = member._value_ = value
        return member


class Status(OpenStrEnum):
    """What a row ended with; a status of a later version counts as answered."""

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
class Reply:
    """A reply as it came, for the ledger: what is derived from it can change without paying again.

    Attributes:
        received_s: When, in seconds since 1970, UTC.
        endpoint: The deployment and the host that answered; no secret.
        text: The text before anything was stripped from it.
        finish_reason: Why the model stopped.
        refusal: The model's refusal.
        usage: The tokens with all their details, as JSON.
        service_tier: The tier that served the request.
    """

    received_s: float
    endpoint: str
    text: str | None = None
    finish_reason: str | None = None
    refusal: str | None = None
    usage: str | None = None
    service_tier: str | None = None


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
        max_output_tokens: The limit of the request that was answered; None when it is not known.
        reply: The reply as it came; None when no reply came, or it was kept earlier.
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
    max_output_tokens: int | None = None
    reply: Reply | None = field(default=None, repr=False)


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
    """Files under the source that are not partitions: how many for each reason; a file has one reason.

    Attributes:
        hidden: A part of the key starts with ``.`` or, unless it is a folder ``_name=value``, with ``_``.
        other_files: The suffix is not one that was asked for.
        maybe_parquet: The same, with a suffix that Parquet files often have, or without any.
        table_metadata: Metadata of a Delta, Iceberg or Hudi table.
        unmatched: The key is not like the glob.
        examples: The first keys of each reason, at most three, by the name of its count.
    """

    hidden: int = 0
    other_files: int = 0
    maybe_parquet: int = 0
    table_metadata: int = 0
    unmatched: int = 0
    examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TableFolder:
    """A folder that holds a table, of whose files some may be dead.

    Attributes:
        kind: Its format: Delta, Iceberg or Hudi.
        address: Its URL, or its path on this machine.
        metadata: The name of its newest metadata file, for Iceberg.
    """

    kind: str
    address: str
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was found under a source.

    Attributes:
        partitions: In the order of their keys.
        left_out: What was seen and left alone.
        tables: The tables that the source is part of or holds.
    """

    partitions: tuple[Partition, ...]
    left_out: LeftOut
    tables: tuple[TableFolder, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do: every partition passed the preflight.

    Attributes:
        partitions: What to summarize, in order.
        rows: Rows in all of them together.
        left_out: What was seen and left alone.
        finished: What is published already and needs no work, in order.
        left: What this run was not asked for, in order.
        orphans: Keys of outputs whose source partition is gone; None when that cannot be known.
    """

    partitions: tuple[Partition, ...]
    rows: int
    left_out: LeftOut
    finished: tuple[Partition, ...] = ()
    left: tuple[Partition, ...] = ()
    orphans: tuple[str, ...] | None = None
