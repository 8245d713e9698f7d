"""What would go wrong, told before a cent is spent.

Reads nothing but footers, many at once. Every problem of every partition is in one message, with file and
column, beside how many partitions are in order.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from tasks.core.errors import PartitionError, PipelineError, PreflightError, StorageError, TransientError
from tasks.core.escaping import printable
from tasks.core.job import Job
from tasks.core.model import Discovery, Partition, Plan
from tasks.core.parquet.append_writer import LONGEST_ROW_GROUP
from tasks.core.parquet.footer import Footer, text_problem
from tasks.core.parquet.footers import read_footers
from tasks.core.parquet.output_schema import OutputSchema
from tasks.core.storage import atomic_write
from tasks.core.storage.stored_files import Found

_PROBLEMS_TOLD = 200
_TEXT_TYPES = "string, large_string, string_view or dictionary of one of them"


@dataclass(frozen=True, slots=True)
class _Finding:
    """What a footer told: rows, and the problems, none of them for a partition in order.

    A problem may pass when it was the store that failed, not the partition.
    """

    rows: int
    problems: tuple[str, ...]
    may_pass: bool = False


def preflight(discovery: Discovery, job: Job) -> Plan:
    """Check every partition by its footer, and that the destination can be written.

    Raises:
        PreflightError: Some cannot be enriched; lists every problem with file and column.
        InputError: The destination is not there or may not be written.
        StorageError: The store does not answer.
    """
    atomic_write.check_writable(job.destination)
    return check(discovery, job)


def check(discovery: Discovery, job: Job) -> Plan:
    """The same for the source alone: nothing is written.

    Raises:
        PreflightError: Some cannot be enriched; lists every problem with file and column.
        StorageError: The store does not answer.
    """
    findings = list(_findings(discovery.partitions, job))
    bad = [finding for finding in findings if finding.problems]
    if bad:
        kind = StorageError if all(finding.may_pass for finding in bad) else PreflightError
        raise kind(_message(findings))
    return Plan(discovery.partitions, sum(finding.rows for finding in findings), discovery.left_out)


def footer_problems(footer: Footer, key: str, text_column: str, columns: OutputSchema) -> Iterator[str]:
    """What keeps a partition from being enriched, a sentence each.

    Args:
        footer: The partition's footer.
        key: Its key; hive folders are columns to whoever reads the dataset.
        text_column: The column to summarize.
        columns: The columns to add.
    """
    names = footer.names
    if text_column not in names:
        yield f"column '{text_column}' is missing (it has {', '.join(names[:20]) or 'no columns'})"
    elif names.count(text_column) > 1:
        yield f"column '{text_column}' exists {names.count(text_column)} times"
    elif problem := _type_problem(footer, text_column) or text_problem(footer, text_column):
        yield problem
    if max(footer.row_groups, default=0) > LONGEST_ROW_GROUP:
        yield f"a row group has more than {LONGEST_ROW_GROUP} rows, which is more than pyarrow writes"
    # Many readers do not tell upper from lower case.
    folders = [part.partition("=")[0] for part in key.split("/")[:-1] if "=" in part]
    taken = {name.casefold(): name for name in [*folders, *names]}
    for name in columns.names:
        if name.casefold() in taken:
            yield f"column '{taken[name.casefold()]}' exists already: choose another column prefix"


def _type_problem(footer: Footer, name: str) -> str | None:
    try:
        (field,) = footer.select([name], with_rows=False).schema.to_arrow_schema()
    except PartitionError as error:
        return str(error)
    # Writers give a column without a single value the type null.
    if pa.types.is_string(field.type) or pa.types.is_null(field.type):
        return None
    return f"column '{name}' is {field.type}, not {_TEXT_TYPES}"


def _findings(partitions: tuple[Partition, ...], job: Job) -> Iterator[_Finding]:
    files = [Found(partition.path, partition.size_bytes, partition.version) for partition in partitions]
    for partition, footer in zip(partitions, read_footers(job.source, files), strict=True):
        yield _finding(partition, footer, job)


def _finding(partition: Partition, footer: Footer | PipelineError, job: Job) -> _Finding:
    if isinstance(footer, PipelineError):
        return _Finding(
            0, (f"{printable(partition.key)}: {footer}",), may_pass=isinstance(footer, TransientError)
        )
    problems = tuple(footer_problems(footer, partition.key, job.text_column, job.columns))
    return _Finding(footer.rows, tuple(printable(f"{partition.key}: {problem}") for problem in problems))


def _message(findings: list[_Finding]) -> str:
    problems = [problem for finding in findings for problem in finding.problems]
    good = [finding for finding in findings if not finding.problems]
    told = problems[:_PROBLEMS_TOLD]
    if len(problems) > len(told):
        told.append(f"... and {len(problems) - len(told)} more")
    bad = len(findings) - len(good)
    head = f"{bad} of {len(findings)} partitions that need work cannot be summarized, nothing was spent."
    if good:
        head += f" The other {len(good)} are in order ({sum(finding.rows for finding in good)} rows)."
    return "\n".join([head, *(f"  - {problem}" for problem in told)])
