"""Commits an upload to S3: sends the conditional request that makes the object visible.

When a reply is lost, the client repeats the request; the repeated conditional request then fails, although
the first one succeeded. So after every failure the object is looked up, and recognized by its upload id.
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
"""Entry of the object's metadata; each attempt has its own value."""
_READERS = 4
"""Samples read at once: more verify sooner, fewer leave connections for other partitions. Not measured."""


@dataclass(frozen=True, slots=True)
class Target:
    """The key to publish to, and the object it may replace.

    Attributes:
        place: The destination.
        key: The key, relative to the destination.
        replaces: The object under the key as listed; None when there is none.
        method: The method of publishing.
        upload_id: A unique id in the object's metadata, to recognize it.
    """

    place: Location
    key: str
    replaces: StoredFile | None
    method: CopyMethod
    upload_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def name(self) -> dict[str, str]:
        """Bucket and key, as parameters of botocore."""
        bucket, name, _ = self.place.fs.split_path(self.place.path(self.key))
        return {"Bucket": bucket, "Key": name}

    @property
    def description(self) -> dict[str, Any]:
        """Metadata and content type; s3fs adds the parameters from the destination's options."""
        metadata = {**self.place.fs.s3_additional_kwargs.get("Metadata", {}), _ID: self.upload_id}
        content_type = {"ContentType": self.method.content_type} if self.method.content_type else {}
        return {"Metadata": metadata, **content_type}

    @property
    def condition(self) -> dict[str, str]:
        """The condition under which the object may become visible."""
        if not self.method.conditional:
            return {}
        return {"IfMatch": f'"{self.replaces.version}"'} if self.replaces else {"IfNoneMatch": "*"}


def commit(
    target: Target, output: OutputBytes, step: Callable[[], dict[str, Any]], abort: Callable[[], None]
) -> StoredFile:
    """Make an object visible.

    Args:
        target: The target.
        output: The object's bytes.
        step: Sends the request.
        abort: Removes the uploaded parts; called when the request failed.

    Returns:
        The object that is visible now.

    Raises:
        OtherMethodError: It is not visible; another method may succeed.
        StorageError: It is not visible: source or destination were replaced meanwhile.
    """
    # Some stores ignore conditions, so source and destination are compared as late as possible.
    output.check_source()
    stored_files.check_not_replaced(target.place, target.key, target.replaces)
    failure, etag = None, ""
    try:
        etag = step().get("ETag", "").strip('"')
    except STORE_ERRORS as error:
        failure = error
        # Before the lookup, so that a request still in progress cannot make the object visible after it.
        abort()
    if found := _find_own(target, etag):
        return found
    if failure is None or status_of(failure) in {HTTPStatus.NOT_FOUND, HTTPStatus.PRECONDITION_FAILED}:
        raise stored_files.replaced_error(target.place, target.key)
    raise_refusal(failure, target.method)
    raise failure


def raise_refusal(error: Exception, method: CopyMethod) -> None:
    """Raise ``OtherMethodError`` if the request may succeed with another method."""
    if next_method := method_after(error, method):
        raise OtherMethodError(code_of(error), next_method) from None


def is_equal(target: Target, found: StoredFile, output: OutputBytes) -> bool:
    """Compare samples of an object with the bytes of the output.

    Raises:
        StorageError: The object was replaced meanwhile.
    """

    def compare(sample: tuple[int, int]) -> bool:
        return read_range(target.place, found, *sample) == output.read(*sample)

    with ThreadPoolExecutor(_READERS) as pool:
        return all(pool.map(compare, output.samples()))


def _find_own(target: Target, etag: str) -> StoredFile | None:
    """The object under the key if this attempt created it."""
    try:
        head = target.place.fs.call_s3("head_object", **target.name)
    except FileNotFoundError:
        return None
    version = head.get("ETag", "").strip('"')
    if target.upload_id != head.get("Metadata", {}).get(_ID) and (not etag or etag != version):
        return None
    return StoredFile(target.place.path(target.key), head["ContentLength"], version)
