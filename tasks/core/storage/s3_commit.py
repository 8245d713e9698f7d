"""The request that makes an object of S3 visible: conditional, and recognized when its reply is lost.

A client repeats a request whose reply was lost; the repeat of a conditional one fails although the first made
the object. So after every failure the object itself is looked at.
"""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from tasks.core.storage import stored_files
from tasks.core.storage.location import Location
from tasks.core.storage.output_bytes import OutputBytes, read_range
from tasks.core.storage.s3_copy_methods import CopyMethod, OtherMethodError, method_after
from tasks.core.storage.storage_errors import STORE_ERRORS, code_of, status_of
from tasks.core.storage.stored_files import StoredFile

_ID = "summarize-parquet-upload"
"""Name in the object's metadata; its value is new for every attempt."""
_READERS = 4


@dataclass(frozen=True, slots=True)
class Target:
    """What is published where, and what it may replace.

    Attributes:
        place: The destination.
        key: Relative to it.
        replaces: What is under the key; None when nothing is.
        way: How.
        upload_id: What the object is recognized by.
    """

    place: Location
    key: str
    replaces: StoredFile | None
    way: CopyMethod
    upload_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def name(self) -> dict[str, str]:
        """Bucket and key, as botocore names them."""
        bucket, name, _ = self.place.fs.split_path(self.place.path(self.key))
        return {"Bucket": bucket, "Key": name}

    @property
    def description(self) -> dict[str, Any]:
        """What is said of the object when it is begun; s3fs adds what the destination's options ask for."""
        metadata = {**self.place.fs.s3_additional_kwargs.get("Metadata", {}), _ID: self.upload_id}
        content_type = {"ContentType": self.way.content_type} if self.way.content_type else {}
        return {"Metadata": metadata, **content_type}

    @property
    def condition(self) -> dict[str, str]:
        """What has to hold when it becomes visible."""
        if not self.way.conditional:
            return {}
        return {"IfMatch": f'"{self.replaces.version}"'} if self.replaces else {"IfNoneMatch": "*"}


def commit(
    target: Target, output: OutputBytes, step: Callable[[], dict[str, Any]], abort: Callable[[], None]
) -> StoredFile:
    """Make an object visible.

    Args:
        target: Which.
        output: Its bytes.
        step: The request.
        abort: Takes back what was uploaded, in case the request did nothing.

    Returns:
        The object that is visible now.

    Raises:
        OtherWayError: It is not visible, and may be in another way.
        StorageError: It is not visible: source or destination were replaced meanwhile.
    """
    # Some stores ignore conditions, so both are compared as late as possible.
    output.check_source()
    stored_files.check_not_replaced(target.place, target.key, target.replaces)
    failure, etag = None, ""
    try:
        etag = step().get("ETag", "").strip('"')
    except STORE_ERRORS as error:
        failure = error
        # First, so that a request that is still being worked on cannot make it visible afterwards.
        abort()
    if found := _find_own(target, etag):
        return found
    if failure is None or status_of(failure) in {HTTPStatus.NOT_FOUND, HTTPStatus.PRECONDITION_FAILED}:
        raise stored_files.replaced_error(target.place, target.key)
    raise_refusal(failure, target.way)
    raise failure


def raise_refusal(error: Exception, way: CopyMethod) -> None:
    """Raise ``OtherMethodError`` if the request may succeed in another way."""
    if next_way := method_after(error, way):
        raise OtherMethodError(code_of(error), next_way) from None


def is_equal(target: Target, found: StoredFile, output: OutputBytes) -> bool:
    """Compare samples of an object with what it was made of.

    Raises:
        StorageError: It was replaced meanwhile.
    """

    def compare(sample: tuple[int, int]) -> bool:
        return read_range(target.place, found, *sample) == output.read(*sample)

    with ThreadPoolExecutor(_READERS) as pool:
        return all(pool.map(compare, output.samples()))


def _find_own(target: Target, etag: str) -> StoredFile | None:
    """The object under the key if this attempt made it."""
    try:
        head = target.place.fs.call_s3("head_object", **target.name)
    except FileNotFoundError:
        return None
    version = head.get("ETag", "").strip('"')
    if target.upload_id != head.get("Metadata", {}).get(_ID) and (not etag or etag != version):
        return None
    return StoredFile(target.place.path(target.key), head["ContentLength"], version)
