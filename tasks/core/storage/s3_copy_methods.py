"""Methods of publishing to an S3 store: the best one to start with, and the next when the store rejects it.

A reply with status 4xx or 501 counts as a rejection, which a retry cannot change; a 500 does not.
"""

from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from botocore import __version__ as botocore_version

from tasks.core.errors import InputError, StorageError
from tasks.core.escaping import printable
from tasks.core.storage import crc32
from tasks.core.storage.location import Location
from tasks.core.storage.output_bytes import OutputBytes
from tasks.core.storage.storage_errors import code_of, status_of, translate_errors
from tasks.core.storage.stored_files import StoredFile

SMALLEST_PART_BYTES = 5 * 2**20
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""


@dataclass(frozen=True, slots=True)
class CopyMethod:
    """One method of publishing.

    Attributes:
        copies: The store copies the source's bytes itself.
        checksum: CRC-32 of the whole output, for the store to verify; None if the source has no checksum.
        conditional: The store checks that the object to replace has not changed.
        content_type: The source's content type; None without one, or if the destination's options set it.
    """

    copies: bool
    checksum: str | None = None
    conditional: bool = True
    content_type: str | None = None


class OtherMethodError(Exception):
    """An attempt failed; the next one uses another method, or the same after a conflict.

    Args:
        reason: The reason, for the log.
        method: The next method.
        replaces: The object now under the key; None when that did not change.
    """

    def __init__(self, reason: str, method: CopyMethod, *, replaces: StoredFile | None = None) -> None:
        super().__init__(reason)
        self.method, self.replaces = method, replaces


def first_method(output: OutputBytes, destination: Location) -> CopyMethod:
    """The best method for a source and a destination; sends one request, for the source's metadata.

    Raises:
        InputError: The installed botocore does not support conditional writes.
        StorageError: The source has changed.
    """
    fs = destination.fs
    _check_client(fs)
    if not output.source.is_s3:
        return CopyMethod(copies=False)
    configured = fs.s3_additional_kwargs
    facts = _facts(output)
    return CopyMethod(
        copies=_is_same_store(output.source.fs, fs)
        and output.file.size_bytes >= SMALLEST_PART_BYTES
        # With keys provided by the customer, a copy would need the keys of both objects.
        and not any("SSECustomer" in name for name in configured),
        checksum=None if "ChecksumAlgorithm" in configured else _checksum(output, facts),
        content_type=None if "ContentType" in configured else facts.get("ContentType"),
    )


def is_refused(error: Exception) -> bool:
    """Whether a store rejected the request for good."""
    status = status_of(error)
    is_client_error = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    return (is_client_error and status != HTTPStatus.NOT_FOUND) or status == HTTPStatus.NOT_IMPLEMENTED


def method_after(error: Exception, method: CopyMethod) -> CopyMethod | None:
    """The next method after an upload could not be started or completed; None when there is none."""
    if status_of(error) == HTTPStatus.CONFLICT:
        return method
    if not is_refused(error) or status_of(error) == HTTPStatus.FORBIDDEN:
        return None
    if method.checksum and (code_of(error) != "BadDigest" or not method.copies):
        # If all bytes were uploaded, a wrong digest means a wrong checksum of the source or a read error.
        return None if code_of(error) == "BadDigest" else replace(method, checksum=None)
    if method.copies:
        return replace(method, copies=False)
    if method.conditional and status_of(error) == HTTPStatus.NOT_IMPLEMENTED:
        return replace(method, conditional=False)
    return None


def _is_same_store(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and one.storage_options == other.storage_options)


def _facts(output: OutputBytes) -> dict[str, Any]:
    source, file = output.source, output.file
    bucket, name, _ = source.fs.split_path(file.path)
    with translate_errors(source.url, file.path):
        facts: dict[str, Any] = source.fs.call_s3(
            "head_object", Bucket=bucket, Key=name, IfMatch=f'"{file.version}"', ChecksumMode="ENABLED"
        )
    if (facts["ContentLength"], facts.get("ETag", "").strip('"')) != (file.size_bytes, file.version):
        message = f"{source.url} ({printable(file.path)}) was replaced meanwhile; run again."
        raise StorageError(message)
    return facts


def _checksum(output: OutputBytes, facts: dict[str, Any]) -> str | None:
    """CRC-32 of the whole output, from the source's; a checksum of parts (``...-N``) cannot be used."""
    text = facts.get("ChecksumCRC32") or ""
    if not text or "-" in text or facts.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT":
        return None
    joined = crc32.combine(crc32.decode(text), output.checksum_of_tail(), output.tail.size_bytes)
    return crc32.encode(joined)


def _check_client(fs: Any) -> None:
    """Check that botocore supports conditional writes; s3fs silently drops parameters unknown to botocore."""
    model = fs.s3.meta.service_model.operation_model("CompleteMultipartUpload")
    if not {"IfMatch", "IfNoneMatch"} <= model.input_shape.members.keys():
        message = (
            f"botocore {botocore_version} does not support conditional writes: upgrade s3fs and aiobotocore."
        )
        raise InputError(message)
