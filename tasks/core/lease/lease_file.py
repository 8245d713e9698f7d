"""The claims on a destination, ``_ledger/lease-NNNNNN.json``: the highest number is the one that counts.

A claim is created under a number nobody used, so of several that try, one has it; afterwards only its owner
overwrites it. The highest is never removed, or two runs could each create a different next one.
"""

import re
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.core.ledger.segment_names import FOLDER
from tasks.core.process_identity import ProcessIdentity
from tasks.core.storage import atomic_write, stored_files
from tasks.core.storage.location import Location
from tasks.core.storage.storage_errors import failures_of

_PREFIX = "lease-"
_NAME = re.compile(r"lease-(\d{6,})\.json")


class LeaseRecord(BaseModel):
    """What one run says of itself.

    Attributes:
        owner: The process it runs in.
        run: The run's own id; one process may have several runs, one after the other.
        since: When it began, ISO 8601 in UTC by the owner's clock; for people, never compared.
        expires_s: Seconds without a renewal after which others may take the run for dead.
        renewals: Counts up while the run lives.
        released: The run has ended in order.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    owner: ProcessIdentity
    run: str
    since: str
    expires_s: float
    renewals: int = 0
    released: bool = False


@dataclass(frozen=True, slots=True)
class Numbered:
    """A claim as it was read; two of them are equal when nothing changed between.

    Attributes:
        number: Its number; 0 when nobody ever claimed the destination.
        claim: What it says; None when it cannot be read.
        data: Its bytes.
    """

    number: int
    claim: LeaseRecord | None
    data: bytes


class LeaseFiles:
    """The claims on one destination.

    Args:
        place: The destination.
    """

    def __init__(self, place: Location) -> None:
        self._place = place

    def latest(self) -> Numbered:
        """The claim that counts.

        Raises:
            StorageError: The store does not answer.
        """
        while number := self.highest():
            content = stored_files.read_whole(self._place, [self._place.path(_key(number))])[0]
            if not isinstance(content, FileNotFoundError):
                return Numbered(number, *_read(content, self._place, number))
            # Removed since it was listed, which happens to a claim only when there is a higher one.
        return Numbered(0, None, b"")

    def highest(self) -> int:
        """The number that counts; 0 when there is none."""
        names = stored_files.names(self._place, FOLDER, _PREFIX)
        return max((int(match[1]) for name in names if (match := _NAME.fullmatch(name))), default=0)

    def create(self, number: int, claim: LeaseRecord) -> bool:
        """Claim under a new number.

        Returns:
            Whether it counts: nobody else has the number, nor a higher one.
        """
        if not atomic_write.create_new(self._place, _key(number), _encode(claim)):
            return False
        # Who was slow may have got a number that others had used, released and removed meanwhile.
        if self.highest() > number:
            atomic_write.remove(self._place, [_key(number)])
            return False
        return True

    def overwrite(self, number: int, claim: LeaseRecord) -> None:
        """Say something new under an own number."""
        atomic_write.create(self._place, _key(number), _encode(claim))

    def remove_below(self, number: int) -> None:
        """Remove what does not count any more."""
        names = stored_files.names(self._place, FOLDER, _PREFIX)
        old = [name for name in names if (match := _NAME.fullmatch(name)) and int(match[1]) < number]
        atomic_write.remove(self._place, [f"{FOLDER}/{name}" for name in old])


def _key(number: int) -> str:
    return f"{FOLDER}/{_PREFIX}{number:06}.json"


def _encode(claim: LeaseRecord) -> bytes:
    return claim.model_dump_json(indent=1).encode()


def _read(content: bytes | Exception, place: Location, number: int) -> tuple[LeaseRecord | None, bytes]:
    with failures_of(place.url, _key(number)):
        if isinstance(content, Exception):
            raise content
    try:
        return LeaseRecord.model_validate_json(content), content
    except ValidationError:
        return None, content
