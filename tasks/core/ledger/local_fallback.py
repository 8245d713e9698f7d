"""Local fallback: replies that the destination did not take, kept on this machine until the next run here.

Segments like the ledger's, in a folder among temporary files (``TMPDIR``) that only its owner may use. Errors
are logged and never keep a run from working or from ending; no promise depends on this copy.
"""

import hashlib
import logging
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from tasks.core.earlier_keys import EarlierKeys
from tasks.core.errors import PipelineError
from tasks.core.ledger.segment_names import FOLDER
from tasks.core.ledger.segment_store import SegmentStore
from tasks.core.storage import temporary_files
from tasks.core.storage.location import Location, locate

logger = logging.getLogger(__name__)


def folder_of(place: Location) -> Path:
    """Where this machine keeps replies that a destination did not take."""
    name = hashlib.blake2b(f"{place.fs.protocol} {place.root}".encode(), digest_size=16).hexdigest()
    return temporary_files.folder() / f"{temporary_files.PREFIX}-{os.getuid()}" / name


class LocalFallback:
    """The replies of one partition that are kept on this machine.

    Args:
        folder: As ``folder_of`` returned it.
        partition_key: The partition.
        fingerprint: Of the request.
        earlier: The same request's keys in versions before 0.3.0.
    """

    def __init__(
        self,
        folder: Path,
        partition_key: str,
        fingerprint: str = "",
        earlier: Sequence[EarlierKeys] = (),
    ) -> None:
        self._folder = folder
        self._partition_key = partition_key
        self._fingerprint = fingerprint
        self._earlier = earlier

    def keep(self, table: pa.Table) -> bool:
        """Store replies, a table of ``segment_format.SCHEMA``; returns whether they are stored."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._is_ours():
                logger.warning("%s belongs to others; no replies are kept there", self._folder)
                return False
            self._segments().add(table)
        except (OSError, PipelineError) as error:
            logger.warning("Replies could not be kept in %s: %s", self._folder, error)
            return False
        return True

    def read(self) -> list[pa.Table]:
        """The replies kept here; none when they cannot be read."""
        try:
            return self._segments().read(own=True) if self._is_ours() else []
        except PipelineError as error:
            logger.warning("Replies kept in %s could not be read: %s", self._folder, error)
            return []

    def remove(self) -> None:
        """Remove the replies: the ledger or the output has them."""
        if not self._is_ours():
            return
        try:
            self._segments().remove()
        except PipelineError as error:
            logger.warning("Replies kept in %s could not be removed: %s", self._folder, error)
        for folder in (self._folder / FOLDER, self._folder, self._folder.parent):
            with suppress(OSError):  # other partitions are kept in it
                folder.rmdir()

    def _segments(self) -> SegmentStore:
        return SegmentStore(locate(str(self._folder)), self._partition_key, self._fingerprint, self._earlier)

    def _is_ours(self) -> bool:
        """Whether the folder exists and no other user can have put anything into it."""
        try:
            status = self._folder.lstat()
        except OSError:
            return False
        is_private = not status.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and is_private
