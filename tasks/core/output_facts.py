"""Facts about an enriched file in its footer: written as entries when it is made, read by name afterwards.

They say how the file was made and how its rows ended, so that whether it is up to date is decided from
footers alone.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tasks.core.formats import FORMAT, PROGRAM, VERSION, check_format, is_readable
from tasks.core.job import Job
from tasks.core.model import Outcome, Partition, Status
from tasks.core.parquet.footer import Footer
from tasks.core.parquet.output_schema import OutputSchema

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

_ENTRY = "summarize_parquet"


def fact_key(column_prefix: str, fact: str) -> str:
    """The footer entry of a fact; those of an earlier enrichment under another prefix stay beside it."""
    return f"{_ENTRY}.{column_prefix}.{fact}"


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
        """Count rows; those without a limit of their own were answered under the given one."""
        for outcome in outcomes:
            self.by_status[outcome.status.value] += 1
            if outcome.status is Status.TRUNCATED:
                self.truncated_at[outcome.max_output_tokens or max_output_tokens] += 1


def entries_of(job: Job, source: Partition, rows: RowCounts) -> dict[str, str]:
    """The entries of an enriched file's footer.

    Args:
        job: What it is made for.
        source: The partition it is made from.
        rows: How its rows ended.
    """
    facts = {
        FORMAT: str(OUTPUT_FORMAT),
        PROGRAM: VERSION,
        FINGERPRINT: job.request.fingerprint,
        TEXT_COLUMN: job.text_column,
        SOURCE_VERSION: job.version_of(source),
        SOURCE_SIZE: str(source.size_bytes),
        # Of the statuses, 0.1.0 and 0.2.0 read this one.
        FAILED_ROWS: str(rows.by_status[Status.FAILED.value]),
        STATUSES: _compact(rows.by_status),
        MAX_OUTPUT_TOKENS: str(job.request.max_output_tokens),
        TRUNCATED_AT: _compact(rows.truncated_at),
        ORIGIN: job.origin_of(source.key),
    }
    return {fact_key(job.columns.prefix, fact): value for fact, value in facts.items()}


@dataclass(frozen=True, slots=True)
class OutputFacts:
    """How an output was made, by its last enrichment.

    Attributes:
        columns: The columns that were added.
        facts: The entries of its footer, by fact.
    """

    columns: OutputSchema
    facts: Mapping[str, str]

    @classmethod
    def of(cls, footer: Footer) -> "OutputFacts | None":
        """The facts in a footer; None when this program did not make the file."""
        facts: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for key, value in footer.entries:
            if (named := _fact_of(key)) and value is not None:
                prefix, fact = named
                facts[prefix][fact] = value.decode(errors="replace")
        made = [
            cls(OutputSchema(prefix), some)
            for prefix, some in facts.items()
            if {FAILED_ROWS, FORMAT} & some.keys()
        ]
        # A source may be an output itself, of an enrichment under another prefix.
        return max(made, key=lambda one: (one.source_bytes or 0, one.last_place(footer)), default=None)

    def last_place(self, footer: Footer) -> int:
        """The place of its last column among all columns; -1 when its columns are not all there."""
        names = self.columns.names
        return footer.names.index(names[-1]) if set(names) <= set(footer.names) else -1

    def fact(self, name: str) -> str:
        """A fact; empty when the output does not have it."""
        return self.facts.get(name, "")

    @property
    def source_bytes(self) -> int | None:
        """How many bytes of the output are its source's; None for one that was written anew."""
        size = self.fact(SOURCE_SIZE)
        return int(size) if self.fact(FORMAT) and size.isdecimal() else None

    @property
    def is_readable(self) -> bool:
        """Whether its format is known."""
        return is_readable(self.fact(FORMAT), OUTPUT_FORMAT)

    def check(self, where: str) -> None:
        """Refuse an output of a later version that cannot be understood.

        Raises:
            InputError: Its format is too new.
        """
        check_format(self.fact(FORMAT), OUTPUT_FORMAT, self.fact(PROGRAM), where)

    def is_intact(self, footer: Footer) -> bool:
        """Whether the new columns are where they were appended: no other program wrote the file since."""
        if not self.fact(FORMAT):
            return True
        size = self.source_bytes
        if size is None or not set(self.columns.names) <= set(footer.names):
            return False
        # A later version may have appended a column more.
        appended = [name for name in footer.names if name.startswith(self.columns.prefix)]
        starts = {name: [chunk.start for chunk in footer.chunks(name)] for name in appended}
        own = [start for name in self.columns.names for start in starts[name]]
        others = [start for name in appended for start in starts[name] if start >= size]
        return min(own, default=size) >= size and min(others, default=size) == size

    def limit_of(self, job: Job) -> int | None:
        """The limit under which this output answers a job's request; None when it answers another request."""
        found = self.fact(FINGERPRINT)
        if found == job.request.fingerprint:
            limit = self.fact(MAX_OUTPUT_TOKENS)
            return int(limit) if limit.isdecimal() else job.request.max_output_tokens
        return None if self.fact(FORMAT) == str(OUTPUT_FORMAT) else job.earlier_limit(found)

    def truncated_at(self, job: Job) -> list[int]:
        """The limits under which its truncated rows were answered, in ascending order.

        Before format 3 the run's limit stands for all, and it is not known whether there are such rows.
        """
        counts = _counts(self.fact(TRUNCATED_AT))
        if counts is None:
            limit = self.limit_of(job)
            return [] if limit is None else [limit]
        return sorted(int(limit) for limit in counts if limit.isdecimal())


def _fact_of(entry: bytes) -> tuple[str, str] | None:
    """The column prefix and the fact of a footer entry; None for an entry of another program."""
    program, _, rest = entry.decode(errors="replace").partition(".")
    prefix, dot, fact = rest.rpartition(".")
    return (prefix, fact) if program == _ENTRY and dot else None


def _compact(counts: Counter[str] | Counter[int]) -> str:
    return json.dumps(counts, sort_keys=True, separators=(",", ":"))


def _counts(fact: str) -> dict[str, int] | None:
    """A JSON object of counts; None for anything else."""
    try:
        counts = json.loads(fact)
    except ValueError:
        return None
    if not isinstance(counts, dict):
        return None
    return {name: count for name, count in counts.items() if isinstance(count, int)}
