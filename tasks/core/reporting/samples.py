"""A few rows of what was published, for a person to read; only when asked for, since row text is private."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from tasks.core.errors import PipelineError
from tasks.core.escaping import printable
from tasks.core.job import Job
from tasks.core.parquet.reader import Reader
from tasks.core.parquet.text_column import TextColumn
from tasks.core.reporting.report import PartitionState, RunReport
from tasks.core.storage import reading, stored_files

logger = logging.getLogger(__name__)

_PER_PARTITION = 5
_TEXT_CHARACTERS = 600


@dataclass(frozen=True, slots=True)
class Sample:
    """A row: where it is, counted from 0, the beginning of its text, and its summary."""

    partition: str
    row: int
    text: str
    summary: str


def take(report: RunReport, job: Job, most: int) -> list[Sample]:
    """The first summarized rows of the first partitions this run published, a few of each.

    Args:
        report: Names those partitions.
        job: Where they are and which columns to read.
        most: Rows at most; with 0 nothing is read.
    """
    samples: list[Sample] = []
    published = (one.key for one in report.partitions if one.state is PartitionState.PUBLISHED)
    while len(samples) < most and (key := next(published, None)) is not None:
        try:
            wanted = min(_PER_PARTITION, most - len(samples))
            samples += [sample for sample, _ in zip(_of(key, job), range(wanted), strict=False)]
        except PipelineError as error:
            logger.warning("No sample of %s for the report: %s", printable(key), error)
    return samples


def _of(key: str, job: Job) -> Iterator[Sample]:
    """The summarized rows of a partition's first row group."""
    found = stored_files.look_at(job.destination, job.destination.path(key))
    with reading.open_to_read(job.destination, found) as file:
        table = next(Reader(file, key).slices([job.text_column, job.columns.prefix]), None)
    if table is None:
        return
    texts, summaries = TextColumn(table[job.text_column]), table[job.columns.prefix].to_pylist()
    for row, (text, summary) in enumerate(zip(texts, summaries, strict=True)):
        if isinstance(text, str) and summary:
            yield Sample(key, row, text[:_TEXT_CHARACTERS], summary)
