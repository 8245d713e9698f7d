"""How every partition of a source stands: what needs work and why, what is finished, what is left for later.

Told by two listings and by the footers of earlier outputs, many at once; nothing is written, no row is read.
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
from tasks.core.parquet.footers import read_footers
from tasks.core.planning import orphans
from tasks.core.planning.plan import Why
from tasks.core.planning.preflight import preflight
from tasks.core.storage import stored_files, table_formats
from tasks.core.storage.discovery import check_distinct, discover, is_whole_folder, matches
from tasks.core.storage.stored_files import Found

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """How one partition stands.

    Attributes:
        partition: Which one.
        why: Why it needs work or does not.
        rows: Rows of its output; None unless it is finished.
        has_output: There is an earlier output.
        has_ledger: The ledger knows of it.
    """

    partition: Partition
    why: Why
    rows: int | None = None
    has_output: bool = False
    has_ledger: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """How a source stands, partitions in the order of their keys.

    Attributes:
        stands: One per partition.
        left_out: Names under the source that are not partitions.
        gone: Keys of outputs whose source partition is gone; None when that cannot be known.
    """

    stands: tuple[PartitionStatus, ...]
    left_out: LeftOut
    gone: tuple[str, ...] | None

    @property
    def todo(self) -> Discovery:
        """What needs work and is taken."""
        return Discovery(self.partitions(*(why for why in Why if why.runs)), self.left_out)

    def partitions(self, *why: Why) -> tuple[Partition, ...]:
        """The partitions that stand like this."""
        return tuple(stand.partition for stand in self.stands if stand.why in why)


def look(job: Job, run: RunOptions = RunOptions()) -> Standing:
    """See how every partition stands, and which of them this run takes.

    Raises:
        InputError: The source holds no partition, or a table; none is wanted, or two would have one output;
            what is gone cannot be known and is to be removed; or source or destination may not be read.
        StorageError: A store does not answer.
    """
    found = discover(job.pattern, run)
    _check(found, job, run)
    wanted = [partition for partition in found.partitions if matches(partition.key, run.only)]
    check_distinct(wanted, job.destination)
    if found.tables:
        logger.warning(table_formats.warning(found.tables))
    listed = _listed(job)
    stands = {stand.partition: stand for stand in _stands(wanted, listed, job)}
    whole = is_whole_folder(job.pattern, found)
    return Standing(
        stands=_taken([stands.get(one, PartitionStatus(one, Why.LEFT)) for one in found.partitions], run),
        left_out=found.left_out,
        gone=orphans.find(found, listed, job, run) if whole else None,
    )


def find_work(job: Job, run: RunOptions) -> Plan:
    """List the source, leave out what is finished or not asked for, and check the others; spends nothing.

    Raises:
        InputError: As ``look``; or partitions cannot be enriched.
        StorageError: A store does not answer.
    """
    standing = look(job, run)
    if not standing.todo.partitions:
        finished = len(standing.partitions(Why.FINISHED))
        logger.info("Nothing to do: %d partitions are finished and unchanged", finished)
    if replaced := standing.partitions(Why.OTHER_SOURCE):
        logger.warning(
            "%d outputs in %s were made from another source and are going to be replaced; if they are to "
            "stay, end this run and choose another destination",
            len(replaced),
            job.destination.url,
        )
    return replace(
        preflight(standing.todo, job),
        finished=standing.partitions(Why.FINISHED),
        left=standing.partitions(Why.LEFT),
        gone=standing.gone,
    )


def _check(found: Discovery, job: Job, run: RunOptions) -> None:
    if run.prune and not is_whole_folder(job.pattern, found):
        message = (
            f"prune needs a whole folder as source: with a glob or a single file, as {job.pattern}, nobody "
            "can tell which partitions are gone."
        )
        raise InputError(message)
    if not any(matches(partition.key, run.only) for partition in found.partitions):
        message = (
            f"None of the {len(found.partitions)} partitions under {job.pattern} is like {run.only}: the "
            "glob is matched against keys below the source, as in day=2026-*/**."
        )
        raise InputError(message)


def _listed(job: Job) -> dict[str, Found]:
    """Every file of the destination by its key, the ledger's among them."""
    place = job.destination
    return {file.path.removeprefix(place.path("")): file for file in stored_files.find(place, place.root)}


def _stands(partitions: Sequence[Partition], listed: Mapping[str, Found], job: Job) -> list[PartitionStatus]:
    published = [listed[partition.key] for partition in partitions if partition.key in listed]
    # In the same order, one after the other: a footer of many columns is large.
    footers = read_footers(job.destination, published)
    begun, request = begun_in(listed), job.request
    return [
        _stand(
            one,
            next(footers) if one.key in listed else None,
            job,
            has_ledger=is_begun(one.key, request.fingerprint, job.earlier, begun),
        )
        for one in partitions
    ]


def _stand(
    partition: Partition, footer: Footer | PipelineError | None, job: Job, *, has_ledger: bool
) -> PartitionStatus:
    if footer is None:
        return PartitionStatus(partition, Why.INTERRUPTED if has_ledger else Why.NEW, has_ledger=has_ledger)
    why = _why(partition, footer, job)
    rows = footer.rows if why is Why.FINISHED and isinstance(footer, Footer) else None
    return PartitionStatus(partition, why, rows, has_output=True, has_ledger=has_ledger)


def _why(partition: Partition, footer: Footer | PipelineError, job: Job) -> Why:
    """How a partition stands by its earlier output.

    Raises:
        InputError: Its format is too new.
    """
    # An output that cannot be read is no finished work, whatever the reason.
    if isinstance(footer, PipelineError):
        return Why.NOT_OURS
    made = OutputFacts.of(footer)
    if made is not None:
        made.check(job.destination.url_of(partition.key))
    if made is None or not made.is_intact(footer):
        return Why.NOT_OURS
    if made.limit_of(job) is None:
        return Why.REQUEST_CHANGED
    # What was enriched under another prefix since is another output.
    if made.columns != job.columns or made.fact(TEXT_COLUMN) != job.text_column:
        return Why.COLUMNS_CHANGED
    # Without a version it is not known whether a source changed.
    if not partition.version or made.fact(SOURCE_VERSION) != job.version_of(partition):
        is_same = made.fact(ORIGIN) == job.origin_of(partition.key)
        return Why.SOURCE_CHANGED if is_same else Why.OTHER_SOURCE
    return _rows_left(made, job)


def _rows_left(made: OutputFacts, job: Job) -> Why:
    """Whether an output of this request and source has rows to request again."""
    if made.fact(FAILED_ROWS) != "0":
        return Why.FAILED_ROWS
    limits = made.truncated_at(job)
    is_cut = bool(limits) and limits[0] < job.request.max_output_tokens
    return Why.TRUNCATED_ROWS if is_cut else Why.FINISHED


def _taken(stands: Sequence[PartitionStatus], run: RunOptions) -> tuple[PartitionStatus, ...]:
    """The same, with what is beyond ``max_partitions`` left."""
    working = [place for place, stand in enumerate(stands) if stand.why.runs]
    beyond = set() if run.max_partitions is None else set(working[run.max_partitions :])
    return tuple(
        replace(stand, why=Why.LEFT) if place in beyond else stand for place, stand in enumerate(stands)
    )
