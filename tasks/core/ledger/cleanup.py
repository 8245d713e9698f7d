"""Cleanup: the next run removes unfinished files and uploads that killed runs left in a destination.

To be called while holding the destination's lease: then no running process owns an unfinished file there. The
files were never visible to readers and hold no paid replies. Errors are logged and end no run.
"""

import logging
import re

from tasks.core.errors import PipelineError
from tasks.core.ledger.segment_names import FOLDER
from tasks.core.storage import atomic_write, stored_files
from tasks.core.storage.location import Location
from tasks.core.storage.multipart_uploads import abort_recorded

logger = logging.getLogger(__name__)

_LEFTOVER = re.compile(
    rf"{atomic_write.ASIDE_FOLDER}/(building-[0-9a-f]{{32}}\.(parquet|tmp)|probe-[0-9a-f]{{32}})"
    # A half-written segment. Directly in the ledger's folder is the lease, perhaps being written now.
    rf"|{FOLDER}/[0-9a-f]{{32}}/\.[0-9a-f]{{32}}"
)


def remove_leftovers(place: Location) -> None:
    """Remove unfinished files and uploads of ended runs; errors are logged."""
    try:
        if files := _leftover_files(place):
            atomic_write.remove(place, files)
            logger.info("Removed %d unfinished files of ended runs from %s", len(files), place.url)
        atomic_write.remove_empty_folder(place, atomic_write.ASIDE_FOLDER)
        if uploads := abort_recorded(place):
            logger.info("Aborted %d unfinished uploads of ended runs below %s", uploads, place.url)
    except PipelineError as error:
        logger.warning("Unfinished files of ended runs in %s could not be removed: %s", place.url, error)


def _leftover_files(place: Location) -> list[str]:
    # Only a disk can hold half-written segments; on an object store, the ledger is not listed for them.
    folders = [atomic_write.ASIDE_FOLDER, *([FOLDER] if place.is_local else [])]
    found = [file for folder in folders for file in stored_files.list_files(place, place.path(folder))]
    keys = [file.path.removeprefix(place.path("")) for file in found]
    return [key for key in keys if _LEFTOVER.fullmatch(key)]
