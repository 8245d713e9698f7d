"""Outputs whose source partition is gone: finding them, and removing them when a person asked for it.

Nothing else in this program removes what readers see, so this is careful. An output is ours only if its
footer tells, outside of what other writers copy, that it was made from this very key below this very source.
What is gone is looked up twice, before the run and after it; files that fail any check are left alone.
"""

import base64
import logging
from collections.abc import Mapping, Sequence

import pyarrow as pa

from tasks.core.errors import PartitionError, PipelineError
from tasks.core.escaping import printable
from tasks.core.formats import FORMAT
from tasks.core.job import Job
from tasks.core.model import Discovery, Plan
from tasks.core.options import RunOptions
from tasks.core.output_facts import FAILED_ROWS, FINGERPRINT, ORIGIN, OutputFacts, fact_key
from tasks.core.parquet.footer import BAD_BYTES, TRAILER_BYTES, Footer, footer_bytes
from tasks.core.parquet.footers import read_footers
from tasks.core.storage import atomic_write, stored_files
from tasks.core.storage.discovery import discover, matches
from tasks.core.storage.partition_names import is_partition
from tasks.core.storage.stored_files import Found

logger = logging.getLogger(__name__)


def find(found: Discovery, listed: Mapping[str, Found], job: Job, run: RunOptions) -> tuple[str, ...]:
    """Keys of our outputs that no partition of the source stands for.

    Args:
        found: All that is in the source: its listing was limited by nothing.
        listed: All that is in the destination, by key.
        job: What the source and the destination are.
        run: The suffixes of partitions, and the glob ``only``; outputs of other names are left alone.

    Raises:
        StorageError: The destination does not answer.
    """
    there = {partition.key for partition in found.partitions}
    named = (key for key in listed if is_partition(key, run.suffix) and matches(key, run.only))
    keys = sorted(key for key in named if key not in there)
    footers = read_footers(job.destination, [listed[key] for key in keys])
    return tuple(
        key for key, footer in zip(keys, footers, strict=True) if _is_ours(footer, listed[key], key, job)
    )


def prune(plan: Plan, job: Job, run: RunOptions) -> tuple[str, ...]:
    """Remove what is gone, if that was asked for; returns the keys of what was removed."""
    return remove(plan.gone, job, run) if run.prune and plan.gone else ()


def remove(keys: Sequence[str], job: Job, run: RunOptions) -> tuple[str, ...]:
    """Remove outputs whose source partition is still gone; what fails is logged.

    Args:
        keys: What was found to be gone when the run began.
        job: What the source and the destination are.
        run: The options they were found with.

    Returns:
        The keys of those that were removed.
    """
    try:
        return _remove(keys, job, run)
    except PipelineError as error:
        logger.warning("Outputs whose source is gone could not be removed: %s", error)
        return ()


def _remove(keys: Sequence[str], job: Job, run: RunOptions) -> tuple[str, ...]:
    place, found = job.destination, discover(job.pattern, run)
    if len(keys) > len(found.partitions):
        # More likely a source that is not all there, such as a folder that is not mounted.
        logger.warning(
            "%d outputs without a source are left alone, since they are more than the %d partitions of %s: "
            "if that is right, remove them by hand.",
            *(len(keys), len(found.partitions), job.source.url),
        )
        return ()
    files = [(key, file) for key in keys for file in stored_files.find(place, place.path(key))]
    listed = {key: file for key, file in files if file.path == place.path(key)}
    gone = find(found, listed, job, run)
    atomic_write.remove(place, gone)
    for key in gone:
        logger.info("Partition %s: its output is removed, its source is gone", printable(key))
        if "/" in key:
            atomic_write.remove_empty_folder(place, key.rpartition("/")[0])
    return gone


def _is_ours(footer: Footer | PipelineError, file: Found, key: str, job: Job) -> bool:
    """Whether a file is the output that was made of a key below this source, and was not written again."""
    made = OutputFacts.of(footer) if isinstance(footer, Footer) else None
    return (
        isinstance(footer, Footer)
        and made is not None
        and bool(made.fact(FINGERPRINT))
        and made.fact(FAILED_ROWS).isdecimal()
        and made.is_readable
        and made.fact(ORIGIN) == job.origin_of(key)
        and made.is_intact(footer)
        and (_holds_source(made, file, job) if made.fact(FORMAT) else not _is_rewritten(footer, made))
    )


def _holds_source(made: OutputFacts, file: Found, job: Job) -> bool:
    """Whether the source's footer still ends where the source ended."""
    size_bytes = made.source_bytes or 0
    (tail,) = stored_files.read_tails(job.destination, [(file.path, size_bytes)], TRAILER_BYTES)
    try:
        return isinstance(tail, bytes) and footer_bytes(tail) <= size_bytes < file.size_bytes
    except PartitionError:
        return False


def _is_rewritten(footer: Footer, made: OutputFacts) -> bool:
    """Whether another writer carried the entries of an output of 0.1.0 along.

    Its last entries are not in Arrow's own copy of the schema, which was made first; a program that reads a
    file and writes it again puts them there. A copy that cannot be read counts as another program's.
    """
    copy = next((value for name, value in footer.entries if name == b"ARROW:schema"), None)
    if copy is None:
        return False
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(copy)))
    except (*BAD_BYTES, ValueError):
        return True
    return fact_key(made.columns.prefix, ORIGIN).encode() in (schema.metadata or {})
