"""Preflight: checks the footers of all partitions before the first request.

Reads only footers, in parallel. One error lists every problem of every partition, with file and column, and
how many partitions have none.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from tasks.core.errors import PartitionError, PipelineError, PreflightError, StorageError, TransientError
from tasks.core.escaping import printable
from tasks.core.job import Job
from tasks.core.model import Discovery, Partition, Plan
from tasks.core.parquet.append_writer import LONGEST_ROW_GROUP
from tasks.core.parquet.footer import Footer, text_column_problem
from tasks.core.parquet.footer_reading import read_footers
from tasks.core.parquet.output_schema import OutputSchema
from tasks.core.storage import atomic_write
from tasks.core.storage.stored_files import StoredFile

_MAX_PROBLEMS_SHOWN = 200
"""Problems listed in the error. Prefect stores the message with the run's state and shows it on one page;
more would bury the first ones, and all partitions often have the same problem. Chosen by reasoning, not
measured."""
_TEXT_TYPES = "string, large_string, string_view or dictionary of one of them"


@dataclass(frozen=True, slots=True)
class _Finding:
    """The result of checking one partition.

    Attributes:
        rows: Rows in the partition.
        problems: One sentence per problem.
        is_transient: The store failed, so the same check may succeed later.
    """

    rows: int
    problems: tuple[str, ...]
    is_transient: bool = False


def preflight(discovery: Discovery, job: Job) -> Plan:
    """Check every partition by its footer, and that the destination can be written.

    Raises:
        PreflightError: Some partitions cannot be enriched; lists every problem with file and column.
        InputError: The destination does not exist or may not be written.
        StorageError: The store does not respond.
    """
    atomic_write.check_writable(job.destination)
    return check(discovery, job)


def check(discovery: Discovery, job: Job) -> Plan:
    """Check every partition by its footer; writes nothing to the destination.

    Raises:
        PreflightError: Some partitions cannot be enriched; lists every problem with file and column.
        StorageError: The store does not respond.
    """
    findings = list(_findings(discovery.partitions, job))
    bad = [finding for finding in findings if finding.problems]
    if bad:
        kind = StorageError if all(finding.is_transient for finding in bad) else PreflightError
        raise kind(_message(findings))
    return Plan(discovery.partitions, sum(finding.rows for finding in findings), discovery.left_out)


def footer_problems(footer: Footer, key: str, text_column: str, columns: OutputSchema) -> Iterator[str]:
    """The problems that prevent a partition from being enriched, one sentence each.

    Args:
        footer: The partition's footer.
        key: Its key; readers of the dataset see folders such as ``day=1`` as columns.
        text_column: The column to summarize.
        columns: The columns to add.
    """
    names = footer.names
    if text_column not in names:
        yield f"column '{text_column}' is missing (it has {', '.join(names[:20]) or 'no columns'})"
    elif names.count(text_column) > 1:
        yield f"column '{text_column}' exists {names.count(text_column)} times"
    elif problem := _type_problem(footer, text_column) or text_column_problem(footer, text_column):
        yield problem
    if max(footer.row_groups, default=0) > LONGEST_ROW_GROUP:
        yield f"a row group has more than {LONGEST_ROW_GROUP} rows, the most that pyarrow can write"
    # Column names are not case-sensitive in many readers.
    folders = [part.partition("=")[0] for part in key.split("/")[:-1] if "=" in part]
    existing = {name.casefold(): name for name in [*folders, *names]}
    for name in columns.names:
        if name.casefold() in existing:
            yield f"column '{existing[name.casefold()]}' exists already: choose another column prefix"


def _type_problem(footer: Footer, name: str) -> str | None:
    try:
        (field,) = footer.select([name], with_rows=False).schema.to_arrow_schema()
    except PartitionError as error:
        return str(error)
    # A column without any value has the type null in files of some writers.
    if pa.types.is_string(field.type) or pa.types.is_null(field.type):
        return None
    return f"column '{name}' is {field.type}, not {_TEXT_TYPES}"


def _findings(partitions: tuple[Partition, ...], job: Job) -> Iterator[_Finding]:
    files = [StoredFile(partition.path, partition.size_bytes, partition.version) for partition in partitions]
    for partition, footer in zip(partitions, read_footers(job.source, files), strict=True):
        yield _finding(partition, footer, job)


def _finding(partition: Partition, footer: Footer | PipelineError, job: Job) -> _Finding:
    if isinstance(footer, PipelineError):
        return _Finding(
            0, (f"{printable(partition.key)}: {footer}",), is_transient=isinstance(footer, TransientError)
        )
    problems = tuple(footer_problems(footer, partition.key, job.text_column, job.columns))
    return _Finding(footer.rows, tuple(printable(f"{partition.key}: {problem}") for problem in problems))


def _message(findings: list[_Finding]) -> str:
    problems = [problem for finding in findings for problem in finding.problems]
    good = [finding for finding in findings if not finding.problems]
    shown = problems[:_MAX_PROBLEMS_SHOWN]
    if len(problems) > len(shown):
        shown.append(f"... and {len(problems) - len(shown)} more")
    bad = len(findings) - len(good)
    head = f"{bad} of {len(findings)} partitions that need work cannot be summarized, nothing was spent."
    if good:
        head += f" The other {len(good)} have no problem ({sum(finding.rows for finding in good)} rows)."
    return "\n".join([head, *(f"  - {problem}" for problem in shown)])
