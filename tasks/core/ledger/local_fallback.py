"""Replies the destination did not take, kept on this machine until a next run here hands them in.

A shelf like the ledger's, in a folder among temporary files (``TMPDIR``) that only its owner may use. Nothing
here keeps a run from working or from ending: a spill is a net, not a promise.
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
from tasks.core.ledger.segment_store import FOLDER, SegmentStore
from tasks.core.storage import temporary_files
from tasks.core.storage.location import Location, locate

logger = logging.getLogger(__name__)


def folder_of(place: Location) -> Path:
    """Where this machine keeps what a destination did not take."""
    name = hashlib.blake2b(f"{place.fs.protocol} {place.root}".encode(), digest_size=16).hexdigest()
    return temporary_files.folder() / f"{temporary_files.PREFIX}-{os.getuid()}" / name


class Spill:
    """What is kept here of one partition.

    Args:
        folder: As ``folder_of`` told.
        partition_key: Whose replies.
        fingerprint: What was asked.
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
        """Store replies, a table of ``segment.SCHEMA``; returns whether they are."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._is_ours():
                logger.warning("%s belongs to others; nothing is kept there", self._folder)
                return False
            self._shelf().add(table)
        except (OSError, PipelineError) as error:
            logger.warning("Replies could not be kept in %s: %s", self._folder, error)
            return False
        return True

    def read(self) -> list[pa.Table]:
        """What is kept; nothing when it cannot be read."""
        try:
            return self._shelf().read(own=True) if self._is_ours() else []
        except PipelineError as error:
            logger.warning("Replies kept in %s could not be read: %s", self._folder, error)
            return []

    def remove(self) -> None:
        """Forget what is kept: the ledger or the output has it."""
        if not self._is_ours():
            return
        try:
            self._shelf().remove()
        except PipelineError as error:
            logger.warning("Replies kept in %s could not be removed: %s", self._folder, error)
        for folder in (self._folder / FOLDER, self._folder, self._folder.parent):
            with suppress(OSError):  # other partitions are kept in it
                folder.rmdir()

    def _shelf(self) -> SegmentStore:
        return SegmentStore(locate(str(self._folder)), self._partition_key, self._fingerprint, self._earlier)

    def _is_ours(self) -> bool:
        """The folder is there, and nobody else can have put anything into it."""
        try:
            status = self._folder.lstat()
        except OSError:
            return False
        is_private = not status.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and is_private
