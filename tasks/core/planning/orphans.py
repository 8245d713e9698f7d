"""Finds orphaned outputs, whose source partition was deleted, and removes them if ``prune`` is set.

No other part of this program removes published files, so the checks are strict. An output may be removed only
if its footer states that this program made it from the same key of the same source, and no other program has
rewritten it since. Orphans are determined twice, before and after the run; a file that fails a check is kept.
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
from tasks.core.parquet.footer import BAD_BYTES, TRAILER_BYTES, Footer
from tasks.core.parquet.footer_reading import footer_bytes, read_footers
from tasks.core.storage import atomic_write, stored_files
from tasks.core.storage.discovery import discover, matches
from tasks.core.storage.partition_names import is_partition
from tasks.core.storage.stored_files import StoredFile

logger = logging.getLogger(__name__)


def find(found: Discovery, listed: Mapping[str, StoredFile], job: Job, run: RunOptions) -> tuple[str, ...]:
    """Keys of outputs of this program that have no partition in the source.

    Args:
        found: All partitions of the source; the listing must be complete.
        listed: All files of the destination, by key.
        job: The run's job, with source and destination.
        run: The suffixes of partitions, and the glob ``only``; outputs with other names are ignored.

    Raises:
        StorageError: The destination does not respond.
    """
    sources = {partition.key for partition in found.partitions}
    candidates = (key for key in listed if is_partition(key, run.suffix) and matches(key, run.only))
    keys = sorted(key for key in candidates if key not in sources)
    footers = read_footers(job.destination, [listed[key] for key in keys])
    return tuple(
        key for key, footer in zip(keys, footers, strict=True) if _is_ours(footer, listed[key], key, job)
    )


def prune(plan: Plan, job: Job, run: RunOptions) -> tuple[str, ...]:
    """Remove a plan's orphaned outputs if ``run.prune`` is set; returns the keys of those removed."""
    return remove(plan.orphans, job, run) if run.prune and plan.orphans else ()


def remove(keys: Sequence[str], job: Job, run: RunOptions) -> tuple[str, ...]:
    """Remove those of the given outputs that are still orphaned; errors are logged, not raised.

    Args:
        keys: Keys of the outputs that were orphaned when the run began.
        job: The run's job, with source and destination.
        run: The options they were found with.

    Returns:
        The keys of the removed outputs.
    """
    try:
        return _remove(keys, job, run)
    except PipelineError as error:
        logger.warning("Orphaned outputs could not be removed: %s", error)
        return ()


def _remove(keys: Sequence[str], job: Job, run: RunOptions) -> tuple[str, ...]:
    destination, found = job.destination, discover(job.pattern, run)
    if len(keys) > len(found.partitions):
        # The source is probably incomplete, for example because a folder is not mounted.
        logger.warning(
            "%d orphaned outputs were not removed, because %s has only %d partitions and may be incomplete. "
            "If it is complete, remove the outputs by hand.",
            *(len(keys), job.source.url, len(found.partitions)),
        )
        return ()
    files = [
        (key, file) for key in keys for file in stored_files.list_files(destination, destination.path(key))
    ]
    listed = {key: file for key, file in files if file.path == destination.path(key)}
    orphaned = find(found, listed, job, run)
    atomic_write.remove(destination, orphaned)
    for key in orphaned:
        logger.info("Partition %s: orphaned output removed, its source partition was deleted", printable(key))
        if "/" in key:
            atomic_write.remove_empty_folder(destination, key.rpartition("/")[0])
    return orphaned


def _is_ours(footer: Footer | PipelineError, file: StoredFile, key: str, job: Job) -> bool:
    """Whether this program made the file from this key of this source, and no other program rewrote it."""
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


def _holds_source(made: OutputFacts, file: StoredFile, job: Job) -> bool:
    """Whether the source's bytes still end, with a Parquet footer, where the output's footer says."""
    size_bytes = made.source_bytes or 0
    (tail,) = stored_files.read_tails(job.destination, [(file.path, size_bytes)], TRAILER_BYTES)
    try:
        return isinstance(tail, bytes) and footer_bytes(tail) <= size_bytes < file.size_bytes
    except PartitionError:
        return False


def _is_rewritten(footer: Footer, made: OutputFacts) -> bool:
    """Whether another program rewrote an output of version 0.1.0 and copied its footer entries.

    0.1.0 added its entries after Arrow had stored a copy of the schema, so that copy lacks them. A program
    that reads the file and writes it again includes them in the copy. A copy that cannot be parsed counts as
    rewritten.
    """
    copy = next((value for name, value in footer.entries if name == b"ARROW:schema"), None)
    if copy is None:
        return False
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(copy)))
    except (*BAD_BYTES, ValueError):
        return True
    return fact_key(made.columns.prefix, ORIGIN).encode() in (schema.metadata or {})
