"""The lease files of a destination, ``_ledger/lease-NNNNNN.json``; the one with the highest number is valid.

A run acquires the lease by creating a file under a new number, which succeeds for one run only. Afterwards
only that run overwrites the file. The file with the highest number is never removed: otherwise two runs could
create different next numbers, and both hold the lease.
"""

import re
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.core.ledger.segment_names import FOLDER
from tasks.core.process_identity import ProcessIdentity
from tasks.core.storage import atomic_write, stored_files
from tasks.core.storage.location import Location
from tasks.core.storage.storage_errors import translate_errors

_PREFIX = "lease-"
_NAME = re.compile(r"lease-(\d{6,})\.json")


class LeaseRecord(BaseModel):
    """The content of a lease file.

    Attributes:
        owner: The process of the run that holds the lease.
        run: Id of the run; a process may have several runs, one after the other.
        since: When the run acquired the lease, ISO 8601 in UTC by its own clock; shown to users, never
            compared.
        expires_s: Seconds without a renewal after which another run may take over.
        renewals: Number of renewals so far.
        released: True when the run has released the lease.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    owner: ProcessIdentity
    run: str
    since: str
    expires_s: float
    renewals: int = 0
    released: bool = False


@dataclass(frozen=True, slots=True)
class StoredLease:
    """A lease file as it was read; two reads are equal if it was not renewed in between.

    Attributes:
        number: The file's number; 0 when there is no lease file.
        record: The parsed content; None when it cannot be parsed.
        data: The file's bytes.
    """

    number: int
    record: LeaseRecord | None
    data: bytes


class LeaseFiles:
    """The lease files of one destination.

    Args:
        destination: The destination.
    """

    def __init__(self, destination: Location) -> None:
        self._destination = destination

    def latest(self) -> StoredLease:
        """Read the valid lease file.

        Raises:
            StorageError: The store does not respond.
        """
        while number := self.highest():
            path = self._destination.path(_key(number))
            content = stored_files.read_files(self._destination, [path])[0]
            if not isinstance(content, FileNotFoundError):
                return StoredLease(number, *_parse(content, self._destination, number))
            # Removed after it was listed, so a file with a higher number exists: list again.
        return StoredLease(0, None, b"")

    def highest(self) -> int:
        """The highest number in use; 0 when there is no lease file."""
        names = stored_files.names_with_prefix(self._destination, FOLDER, _PREFIX)
        return max((int(match[1]) for name in names if (match := _NAME.fullmatch(name))), default=0)

    def create(self, number: int, record: LeaseRecord) -> bool:
        """Create the lease file with a new number.

        Returns:
            Whether the file was created and is valid: False if the number or a higher one is in use.
        """
        if not atomic_write.create_exclusive(self._destination, _key(number), _encode(record)):
            return False
        # A slow run may create a number that other runs have used, released and removed in the meantime.
        if self.highest() > number:
            atomic_write.remove(self._destination, [_key(number)])
            return False
        return True

    def overwrite(self, number: int, record: LeaseRecord) -> None:
        """Replace the content of the run's own lease file."""
        atomic_write.write(self._destination, _key(number), _encode(record))

    def remove_below(self, number: int) -> None:
        """Remove the lease files with a lower number, which are no longer valid."""
        names = stored_files.names_with_prefix(self._destination, FOLDER, _PREFIX)
        old = [name for name in names if (match := _NAME.fullmatch(name)) and int(match[1]) < number]
        atomic_write.remove(self._destination, [f"{FOLDER}/{name}" for name in old])


def _key(number: int) -> str:
    return f"{FOLDER}/{_PREFIX}{number:06}.json"


def _encode(record: LeaseRecord) -> bytes:
    return record.model_dump_json(indent=1).encode()


def _parse(
    content: bytes | Exception, destination: Location, number: int
) -> tuple[LeaseRecord | None, bytes]:
    with translate_errors(destination.url, _key(number)):
        if isinstance(content, Exception):
            raise content
    try:
        return LeaseRecord.model_validate_json(content), content
    except ValidationError:
        return None, content
