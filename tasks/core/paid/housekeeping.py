"""What killed runs left in a destination, and on this machine, removed by the next one.

Only for who holds the destination's lease: then every unfinished file there is nobody's. What is removed was
never visible to readers and holds nothing that was paid for. Nothing here keeps a run from working.
"""

import logging
import re
from collections.abc import Callable

from tasks.core.errors import PipelineError
from tasks.core.paid.shelf import FOLDER
from tasks.core.store import publishing, storage, temporary
from tasks.core.store.failures import failures_of
from tasks.core.store.location import Location

logger = logging.getLogger(__name__)

_LEFTOVER = re.compile(
    rf"{publishing.ASIDE_FOLDER}/(building-[0-9a-f]{{32}}\.(?:tmp|parquet)|probe-[0-9a-f]{{32}})"
    # Half a segment. Directly in the ledger's folder the lease is written, perhaps at this moment.
    rf"|{FOLDER}/[0-9a-f]{{32}}/\.[0-9a-f]{{32}}"
)
_OURS = (".parquet", ".segment")


def remove_leftovers(place: Location, is_output: Callable[[str], bool] = lambda _: False) -> None:
    """Remove unfinished files and uploads of dead runs; what fails is logged.

    Args:
        place: The destination.
        is_output: Tells which keys this source's outputs may have, beside those that end in ``.parquet``.
    """
    if built := temporary.remove_leftovers():
        logger.info("Removed %d unfinished files of ended runs from %s", built, temporary.folder())
    try:
        if files := _leftover_files(place):
            publishing.remove(place, files)
            logger.info("Removed %d unfinished files of ended runs from %s", len(files), place.url)
        publishing.remove_empty_folder(place, publishing.ASIDE_FOLDER)
        if place.is_s3 and (uploads := _abort_uploads(place, is_output)):
            logger.info("Aborted %d unfinished uploads of ended runs below %s", uploads, place.url)
    except PipelineError as error:
        logger.warning("What ended runs left in %s could not be removed: %s", place.url, error)


def _leftover_files(place: Location) -> list[str]:
    # Segments are built aside on a disk only; elsewhere the ledger's listing is not worth its pages.
    folders = [publishing.ASIDE_FOLDER, *([FOLDER] if place.is_local else [])]
    found = [file for folder in folders for file in storage.find(place, place.path(folder))]
    keys = [file.path.removeprefix(place.path("")) for file in found]
    return [key for key in keys if _LEFTOVER.fullmatch(key)]


def _abort_uploads(place: Location, is_output: Callable[[str], bool]) -> int:
    """Abort what the store keeps, and bills, of uploads that were never completed; returns how many."""
    bucket, folder, _ = place.fs.split_path(place.path(""))
    aborted, page = 0, {"KeyMarker": "", "UploadIdMarker": ""}
    with failures_of(place.url):
        while True:
            listed = place.fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=folder, **page)
            for upload in listed.get("Uploads", []):
                key = upload["Key"].removeprefix(folder)
                if upload["Key"].startswith(folder) and (key.endswith(_OURS) or is_output(key)):
                    which = {"Key": upload["Key"], "UploadId": upload["UploadId"]}
                    place.fs.call_s3("abort_multipart_upload", Bucket=bucket, **which)
                    aborted += 1
            if not listed.get("IsTruncated"):
                return aborted
            page = {
                "KeyMarker": listed["NextKeyMarker"],
                "UploadIdMarker": listed.get("NextUploadIdMarker", ""),
            }
