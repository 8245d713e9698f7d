"""What all partitions of a run have in common.

Built once, from what the user asked for and what the environment says; everything about it is checked here,
before a listing is read.
"""

import hashlib
import json
import socket
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tasks.core.earlier_keys import EarlierKeys, earlier_keys, earlier_limit
from tasks.core.endpoint import Endpoint
from tasks.core.formats import FORMAT, PROGRAM, VERSION
from tasks.core.model import Outcome, Partition, Status
from tasks.core.options import ModelOptions, OutputOptions, PriceOptions
from tasks.core.parquet.summary_columns import SummaryColumns
from tasks.core.pricing import Price, price_of
from tasks.core.prompt import Prompt, Request
from tasks.core.settings import Settings
from tasks.core.storage import discovery
from tasks.core.storage.location import Location, locate

_ENTRY = "summarize_parquet"
OUTPUT_FORMAT = 3
"""Format of an output. 1, without the entry: written anew by 0.1.0. 2: the source, byte for byte, the new
columns, a footer. 3: the same, with rows per status and limits, and a fingerprint without the deployment."""
SOURCE_SIZE = "source_size"
"""Where the source's bytes end in an output, and the new columns begin."""
FINGERPRINT = "fingerprint"
TEXT_COLUMN = "text_column"
SOURCE_VERSION = "source_version"
FAILED_ROWS = "failed_rows"
STATUSES = "statuses"
"""Rows per status, as a JSON object."""
MAX_OUTPUT_TOKENS = "max_output_tokens"
"""The limit of the run that wrote it."""
TRUNCATED_AT = "truncated_at"
"""Truncated rows by the limit they were answered under, as a JSON object."""
ORIGIN = "origin"
"""Which partition of which source this is, as a hash: a copy under another name is no output of its place."""


def fact_key(column_prefix: str, fact: str) -> str:
    """The footer entry of a fact; those of an earlier enrichment under another prefix stay beside it."""
    return f"{_ENTRY}.{column_prefix}.{fact}"


def fact_of(entry: bytes) -> tuple[str, str] | None:
    """The column prefix and the fact of a footer entry; None for an entry of another program."""
    program, _, rest = entry.decode(errors="replace").partition(".")
    prefix, dot, fact = rest.rpartition(".")
    return (prefix, fact) if program == _ENTRY and dot else None


@dataclass(slots=True)
class RowCounts:
    """How the rows of an output ended, counted for its footer.

    Attributes:
        by_status: Rows by status, unknown ones among them.
        truncated_at: Truncated rows by the limit they were answered under.
    """

    by_status: Counter[str] = field(default_factory=Counter)
    truncated_at: Counter[int] = field(default_factory=Counter)

    def add(self, outcomes: Iterable[Outcome], max_output_tokens: int) -> None:
        """Count rows; those that do not say their limit were answered under the given one."""
        for outcome in outcomes:
            self.by_status[outcome.status.value] += 1
            if outcome.status is Status.TRUNCATED:
                self.truncated_at[outcome.max_output_tokens or max_output_tokens] += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What all partitions of a run have in common.

    Attributes:
        pattern: The source as the user wrote it: a prefix, a glob or a file.
        source: The folder partition keys are relative to.
        destination: Where enriched partitions are published.
        text_column: The column to summarize.
        columns: The columns to add.
        request: What all requests have in common.
        endpoints: Where the model is reached.
        max_failed_fraction: The part of a partition's rows that may fail and it is still published.
        price: What tokens cost; None when nobody knows.
    """

    pattern: str
    source: Location
    destination: Location
    text_column: str
    columns: SummaryColumns
    request: Request
    endpoints: tuple[Endpoint, ...]
    max_failed_fraction: float = 1.0
    price: Price | None = None

    @property
    def earlier(self) -> tuple[EarlierKeys, ...]:
        """The keys that rows may have in ledgers and outputs of versions before 0.3.0."""
        return earlier_keys(self.request, self.endpoints)

    def earlier_limit(self, fingerprint: str) -> int | None:
        """The limit under which versions before 0.3.0 gave this job a fingerprint; None if none did."""
        return earlier_limit(self.request, self.endpoints, fingerprint)

    def origin_of(self, partition_key: str) -> str:
        """A hash that is equal only for the same key below the same source folder, as 32 hex digits.

        A path on a disk means a folder of one machine: on another it may be another folder.
        """
        protocol = self.source.fs.protocol
        name = protocol if isinstance(protocol, str) else protocol[0]
        store = f"{name} {socket.gethostname()}" if self.source.is_local else name
        address = "\0".join((store, discovery.real_path(self.source).rstrip("/"), partition_key))
        return hashlib.blake2b(address.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()

    def facts_of(self, partition: Partition, rows: "RowCounts") -> dict[str, str]:
        """The entries of an enriched partition's footer: how it was made.

        Args:
            partition: The source.
            rows: How its rows ended.
        """
        facts = {
            FORMAT: str(OUTPUT_FORMAT),
            PROGRAM: VERSION,
            FINGERPRINT: self.request.fingerprint,
            TEXT_COLUMN: self.text_column,
            SOURCE_VERSION: self.version_of(partition),
            SOURCE_SIZE: str(partition.size_bytes),
            # Of the statuses, what 0.1.0 and 0.2.0 read.
            FAILED_ROWS: str(rows.by_status[Status.FAILED.value]),
            STATUSES: _compact(rows.by_status),
            MAX_OUTPUT_TOKENS: str(self.request.max_output_tokens),
            TRUNCATED_AT: _compact(rows.truncated_at),
            ORIGIN: self.origin_of(partition.key),
        }
        return {fact_key(self.columns.prefix, fact): value for fact, value in facts.items()}

    @staticmethod
    def version_of(partition: Partition) -> str:
        """The source's version, as an output's footer names it."""
        return f"{partition.version} {partition.size_bytes}"


def prepare(
    source: str,
    destination: str,
    text_column: str,
    *,
    prompt: str,
    model: ModelOptions,
    output: OutputOptions,
    settings: Settings,
    prices: PriceOptions = PriceOptions(),
) -> Job:
    """Resolve and check what was asked for.

    Raises:
        InputError: A URL cannot be opened, or source and destination overlap.
    """
    job = Job(
        pattern=source,
        source=discovery.source_location(source),
        destination=locate(destination),
        text_column=text_column,
        columns=SummaryColumns(output.column_prefix),
        request=Request(
            model=settings.model_name,
            prompt=Prompt(prompt),
            temperature=model.temperature,
            max_output_tokens=model.max_output_tokens,
        ),
        endpoints=(settings.endpoint,),
        max_failed_fraction=output.max_failed_fraction,
        price=price_of(settings.model_name, prices.input_usd_per_million, prices.output_usd_per_million),
    )
    discovery.check_apart(job.source, job.destination)
    return job


def _compact(counts: Counter[str] | Counter[int]) -> str:
    return json.dumps(counts, sort_keys=True, separators=(",", ":"))
