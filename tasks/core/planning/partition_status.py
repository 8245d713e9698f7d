"""The status of every partition of a source: finished, left for another run, or to be processed and why.

Determined from two listings and the footers of earlier outputs. Writes nothing and reads no rows.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tasks.core.errors import InputError, PipelineError
from tasks.core.job import Job
from tasks.core.ledger.segment_names import begun_in, is_begun
from tasks.core.model import Discovery, LeftOut, Partition, Plan
from tasks.core.options import RunOptions
from tasks.core.output_facts import FAILED_ROWS, ORIGIN, SOURCE_VERSION, TEXT_COLUMN, OutputFacts
from tasks.core.parquet.footer import Footer
from tasks.core.parquet.footer_reading import read_footers
from tasks.core.planning import orphans
from tasks.core.planning.plan import Reason
from tasks.core.planning.preflight import preflight
from tasks.core.storage import stored_files, table_formats
from tasks.core.storage.discovery import check_distinct, discover, is_whole_folder, matches
from tasks.core.storage.stored_files import StoredFile

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """The status of one partition.

    Attributes:
        partition: The partition.
        reason: Why it is processed, or is not.
        rows: Rows of its output; None unless it is finished.
        has_output: The destination holds an earlier output.
        has_ledger: The ledger holds replies for it.
    """

    partition: Partition
    reason: Reason
    rows: int | None = None
    has_output: bool = False
    has_ledger: bool = False


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """The status of a source.

    Attributes:
        statuses: One per partition, in the order of their keys.
        left_out: Names under the source that are not partitions.
        orphans: Keys of outputs whose source partition was deleted; None when this cannot be determined.
    """

    statuses: tuple[PartitionStatus, ...]
    left_out: LeftOut
    orphans: tuple[str, ...] | None

    @property
    def selected(self) -> Discovery:
        """The partitions that this run processes."""
        return Discovery(self.partitions(*(one for one in Reason if one.is_selected)), self.left_out)

    def partitions(self, *reasons: Reason) -> tuple[Partition, ...]:
        """The partitions whose status has one of these reasons."""
        return tuple(status.partition for status in self.statuses if status.reason in reasons)


def inspect_source(job: Job, run: RunOptions = RunOptions()) -> SourceStatus:
    """Determine the status of every partition, and which of them this run processes.

    Raises:
        InputError: The source holds no partition, or is a table; ``only`` matches no partition; two
            partitions would have the same output; ``prune`` is set and orphans cannot be determined; or
            source or destination may not be read.
        StorageError: The store does not respond.
    """
    found = discover(job.pattern, run)
    _check(found, job, run)
    wanted = [partition for partition in found.partitions if matches(partition.key, run.only)]
    check_distinct(wanted, job.destination)
    if found.tables:
        logger.warning(table_formats.table_warning(found.tables))
    listed = _list_destination(job)
    statuses = {status.partition: status for status in _statuses(wanted, listed, job)}
    every = [statuses.get(one, PartitionStatus(one, Reason.LEFT)) for one in found.partitions]
    return SourceStatus(
        statuses=_limited(every, run.max_partitions),
        left_out=found.left_out,
        orphans=orphans.find(found, listed, job, run) if is_whole_folder(job.pattern, found) else None,
    )


def find_work(job: Job, run: RunOptions) -> Plan:
    """List the source, select the partitions to process, and check them; sends no request.

    Raises:
        InputError: As ``inspect_source``; or partitions cannot be enriched.
        StorageError: The store does not respond.
    """
    status = inspect_source(job, run)
    if not status.selected.partitions:
        finished = len(status.partitions(Reason.FINISHED))
        logger.info("Nothing to do: %d partitions are finished and unchanged", finished)
    if replaced := status.partitions(Reason.OTHER_SOURCE):
        logger.warning(
            "%d outputs in %s were made from another source and will be replaced; to keep them, stop this "
            "run and choose another destination",
            len(replaced),
            job.destination.url,
        )
    return replace(
        preflight(status.selected, job),
        finished=status.partitions(Reason.FINISHED),
        left=status.partitions(Reason.LEFT),
        orphans=status.orphans,
    )


def _check(found: Discovery, job: Job, run: RunOptions) -> None:
    if run.prune and not is_whole_folder(job.pattern, found):
        message = (
            f"prune needs a whole folder as source: from {job.pattern}, a glob or a single file, deleted "
            "partitions cannot be determined. Give the folder, or leave out prune."
        )
        raise InputError(message)
    if not any(matches(partition.key, run.only) for partition in found.partitions):
        message = (
            f"None of the {len(found.partitions)} partitions under {job.pattern} matches {run.only}: the "
            "glob is matched against keys relative to the source, as in day=2026-*/**."
        )
        raise InputError(message)


def _list_destination(job: Job) -> dict[str, StoredFile]:
    """All files of the destination by key, including those of the ledger."""
    destination = job.destination
    files = stored_files.list_files(destination, destination.root)
    return {file.path.removeprefix(destination.path("")): file for file in files}


def _statuses(
    partitions: Sequence[Partition], listed: Mapping[str, StoredFile], job: Job
) -> list[PartitionStatus]:
    published = [listed[partition.key] for partition in partitions if partition.key in listed]
    # An iterator, not a list: the footers of wide tables take much memory.
    footers = read_footers(job.destination, published)
    begun, request = begun_in(listed), job.request
    return [
        _status(
            one,
            next(footers) if one.key in listed else None,
            job,
            has_ledger=is_begun(one.key, request.fingerprint, job.earlier, begun),
        )
        for one in partitions
    ]


def _status(
    partition: Partition, footer: Footer | PipelineError | None, job: Job, *, has_ledger: bool
) -> PartitionStatus:
    if footer is None:
        reason = Reason.INTERRUPTED if has_ledger else Reason.NEW
        return PartitionStatus(partition, reason, has_ledger=has_ledger)
    reason = _reason(partition, footer, job)
    rows = footer.rows if reason is Reason.FINISHED and isinstance(footer, Footer) else None
    return PartitionStatus(partition, reason, rows, has_output=True, has_ledger=has_ledger)


def _reason(partition: Partition, footer: Footer | PipelineError, job: Job) -> Reason:
    """Compare the footer of an earlier output with the partition and the job.

    Raises:
        InputError: A later version of this program wrote the output, in a format that is too new.
    """
    # An output that cannot be read is never finished, whatever the error was.
    if isinstance(footer, PipelineError):
        return Reason.NOT_OURS
    made = OutputFacts.of(footer)
    if made is not None:
        made.check(job.destination.url_of(partition.key))
    if made is None or not made.is_intact(footer):
        return Reason.NOT_OURS
    if made.limit_of(job) is None:
        return Reason.REQUEST_CHANGED
    # The output may hold the columns of several runs, each with its own prefix.
    if made.columns != job.columns or made.fact(TEXT_COLUMN) != job.text_column:
        return Reason.COLUMNS_CHANGED
    # Some stores report no version of a file; its source may have changed then.
    if not partition.version or made.fact(SOURCE_VERSION) != job.version_of(partition):
        is_same = made.fact(ORIGIN) == job.origin_of(partition.key)
        return Reason.SOURCE_CHANGED if is_same else Reason.OTHER_SOURCE
    return _incomplete_rows(made, job)


def _incomplete_rows(made: OutputFacts, job: Job) -> Reason:
    """Whether an up-to-date output has rows to request again: failed ones, or ones cut at a smaller limit."""
    if made.fact(FAILED_ROWS) != "0":
        return Reason.FAILED_ROWS
    limits = made.truncated_at(job)
    is_cut = bool(limits) and limits[0] < job.request.max_output_tokens
    return Reason.TRUNCATED_ROWS if is_cut else Reason.FINISHED


def _limited(statuses: Sequence[PartitionStatus], max_partitions: int | None) -> tuple[PartitionStatus, ...]:
    """The same statuses; selected partitions beyond the first ``max_partitions`` are left for another run."""
    selected = [index for index, status in enumerate(statuses) if status.reason.is_selected]
    beyond = set() if max_partitions is None else set(selected[max_partitions:])
    return tuple(
        replace(status, reason=Reason.LEFT) if index in beyond else status
        for index, status in enumerate(statuses)
    )
