"""Reads a few published rows for the report, if the user requests them; row text is private."""

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

_ROWS_PER_PARTITION = 5
"""Rows of one partition, at most. Fewer would show more partitions, but read more files. Not measured."""
_MAX_TEXT_CHARACTERS = 600
"""Characters shown of a text. More would show more context, but make the page longer. Not measured."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A row: its partition, its index counted from 0, the beginning of its text, and its summary."""

    partition: str
    row: int
    text: str
    summary: str


def read_samples(report: RunReport, job: Job, max_rows: int) -> list[Sample]:
    """Read the first summarized rows of the first partitions this run published, a few from each.

    Args:
        report: The run's report, which lists these partitions.
        job: The run's job, with destination and columns.
        max_rows: Largest number of rows; with 0 nothing is read.
    """
    samples: list[Sample] = []
    published = (one.key for one in report.partitions if one.state is PartitionState.PUBLISHED)
    while len(samples) < max_rows and (key := next(published, None)) is not None:
        try:
            wanted = min(_ROWS_PER_PARTITION, max_rows - len(samples))
            samples += [sample for sample, _ in zip(_rows(key, job), range(wanted), strict=False)]
        except PipelineError as error:
            logger.warning("Partition %s: no sample for the report: %s", printable(key), error)
    return samples


def _rows(key: str, job: Job) -> Iterator[Sample]:
    """The summarized rows of a partition's first row group."""
    found = stored_files.stat(job.destination, job.destination.path(key))
    with reading.open_to_read(job.destination, found) as file:
        table = next(Reader(file, key).slices([job.text_column, job.columns.prefix]), None)
    if table is None:
        return
    texts, summaries = TextColumn(table[job.text_column]), table[job.columns.prefix].to_pylist()
    for row, (text, summary) in enumerate(zip(texts, summaries, strict=True)):
        if isinstance(text, str) and summary:
            yield Sample(key, row, text[:_MAX_TEXT_CHARACTERS], summary)
