"""Records that are passed between modules: outcomes of rows, partitions, discoveries, plans.

Records have no behavior. They are immutable, small and picklable, so they may be passed between threads and
processes, and stored in Prefect's states.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

Text = str | bytes | None
"""A row's text: None when it is null, raw bytes when it is not valid UTF-8."""


class OpenStrEnum(StrEnum):
    """An enum that keeps unknown values, which a later version of this program may have written."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        # An unknown member compares, hashes and pickles by its value.
        member = str.__new__(cls, value)
        member._name_ = member._value_ = value
        return member


class Status(OpenStrEnum):
    """The final status of a row; an unknown status of a later version counts as answered."""

    OK = "ok"
    EMPTY = "empty"
    TRUNCATED = "truncated"
    FILTERED = "filtered"
    REFUSED = "refused"
    TOO_LONG = "too_long"
    FAILED = "failed"

    @property
    def is_answered(self) -> bool:
        """Whether the deployment replied: the reply is paid for, kept, and never requested again."""
        return self not in {Status.EMPTY, Status.FAILED}


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply as received, for the ledger, so that derived values can change without paying again.

    Attributes:
        received_s: Time of receipt, in seconds since 1970, UTC.
        endpoint: The deployment and the host that replied; no secret.
        text: The complete text, with surrounding whitespace.
        finish_reason: Why the model stopped.
        refusal: The model's refusal.
        usage: The token counts with all details, as JSON.
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
    """The result of one row, with its requests and tokens.

    Attributes:
        status: The final status.
        text: The summary; None if the model wrote none.
        error: Why there is no complete summary; never contains the row's text.
        model: The model in the reply.
        prompt_tokens: Tokens billed for the prompt.
        completion_tokens: Tokens billed for the reply.
        requests: HTTP requests sent for this row, rejected ones included.
        lost_replies: Requests whose reply never arrived; they may be on the bill.
        reused: The reply was paid for earlier, or for another row; the tokens are those of that request.
        cached_tokens: Prompt tokens found in the deployment's cache.
        max_output_tokens: The limit of the successful request; None if unknown.
        reply: The reply as received; None without a reply, or if the ledger has it already.
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
        path: Its path in the source's filesystem.
        size_bytes: Its size when it was listed.
        version: Changes when its content changes: the store's ETag, or the modification time.
    """

    key: str
    path: str
    size_bytes: int
    version: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Number of files in the source that are not partitions, by reason; each file has one reason.

    Attributes:
        hidden: A part of the key starts with ``.`` or, unless it is a folder ``_name=value``, with ``_``.
        other_files: The suffix is not one of those selected.
        maybe_parquet: The same, but the suffix is one that Parquet files often have, or is missing.
        table_metadata: Metadata of a Delta, Iceberg or Hudi table.
        unmatched: The key does not match the glob.
        examples: Up to three keys for each reason, by the reason's name.
    """

    hidden: int = 0
    other_files: int = 0
    maybe_parquet: int = 0
    table_metadata: int = 0
    unmatched: int = 0
    examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TableFolder:
    """A folder that contains a table; some of its files may be dead.

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
    """The result of listing a source.

    Attributes:
        partitions: The partitions, in the order of their keys.
        left_out: Counts of the other files.
        tables: The tables that the source contains or is part of.
    """

    partitions: tuple[Partition, ...]
    left_out: LeftOut
    tables: tuple[TableFolder, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The work of a run; every partition passed the preflight.

    Attributes:
        partitions: Partitions to summarize, in order.
        rows: Number of rows in these partitions.
        left_out: Counts of files that are not partitions.
        finished: Partitions with a complete output, in order.
        left: Partitions not selected for this run, in order.
        orphans: Keys of orphaned outputs, whose source is gone; None if the source was not listed completely.
    """

    partitions: tuple[Partition, ...]
    rows: int
    left_out: LeftOut
    finished: tuple[Partition, ...] = ()
    left: tuple[Partition, ...] = ()
    orphans: tuple[str, ...] | None = None
