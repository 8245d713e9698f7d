"""Publishes an output to S3: the store copies the source where it can, and only the rest is uploaded.

The object appears atomically, and only if the object it replaces has not changed. The source's content type
is kept. Encryption, ACL and storage class come from the destination's options (``s3_additional_kwargs``), as
for all files that s3fs writes.
"""

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http import HTTPStatus
from typing import Any, NoReturn

from tasks.core.errors import StorageError
from tasks.core.storage.location import Location
from tasks.core.storage.multipart_uploads import Upload, md5_of
from tasks.core.storage.output_bytes import OutputBytes, Transfer
from tasks.core.storage.s3_commit import Target, commit, is_equal, raise_refusal
from tasks.core.storage.s3_copy_methods import SMALLEST_PART_BYTES, OtherMethodError, first_method, is_refused
from tasks.core.storage.storage_errors import STORE_ERRORS, status_of, translate_errors
from tasks.core.storage.stored_files import StoredFile

logger = logging.getLogger(__name__)

_PART_BYTES = 16 * 2**20
"""Larger parts need fewer requests; smaller ones less memory (up to three are held), and are copied by the
store well within the read timeout."""
_MOST_PARTS = 9_900
"""S3 allows 10,000: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""
_WORKERS = 4
"""Parts copied or sent at once. More publish a large file sooner; fewer leave connections of the pool of ten
for other partitions. Chosen, not measured."""
_IN_MEMORY_BYTES = 48 * 2**20
"""Parts in memory: more allow more uploads at once, fewer keep memory low when a partition of 100 GB needs
larger parts."""
_TRIES = 6
"""Each method once, and two conflicts with other writers."""


def publish(output: OutputBytes, destination: Location, key: str, replaces: StoredFile | None) -> Transfer:
    """Publish an output in an S3 bucket.

    Raises:
        InputError: Access to the source or the destination is denied.
        StorageError: The store failed, or source or destination were replaced; trying again is safe.
    """
    with translate_errors(destination.url, key):
        target = Target(destination, key, replaces, first_method(output, destination))
        for _ in range(_TRIES):
            try:
                return _Publication(output, target).run()
            except OtherMethodError as other:
                logger.info("%s: %s; retrying with another method", destination.url_of(key), other)
                target = Target(destination, key, other.replaces or target.replaces, other.method)
    message = f"{destination.url_of(key)} was not published: the store rejected it repeatedly; run again."
    raise StorageError(message)


class _Publication:
    """One attempt with one method."""

    def __init__(self, output: OutputBytes, target: Target) -> None:
        self._output, self._target, self._method = output, target, target.method
        size = output.file.size_bytes
        wanted = min(_PART_BYTES, max(SMALLEST_PART_BYTES, size // _WORKERS))
        wanted = max(wanted, -(-output.size_bytes // _MOST_PARTS))
        # All parts but the last have the same size, which some stores require. The size is chosen so that few
        # bytes of a copied source remain, since these have to be uploaded.
        self._copies = size // wanted if self._method.copies else 0
        self._part_bytes = size // self._copies if self._copies else wanted

    def run(self) -> Transfer:
        """Publish and verify."""
        size, copied = self._output.size_bytes, self._copies * self._part_bytes
        found = self._upload() if copied or size > _PART_BYTES else self._put()
        # Uploaded bytes were verified by the store with their Content-MD5.
        if found.size_bytes != size or (copied and not is_equal(self._target, found, self._output)):
            where = self._target.place.url_of(self._target.key)
            if copied:
                logger.warning("%s: the store's copy differs from the source; uploading it instead", where)
                self._stop_copying("the store's copy differs from the source", found)
            message = f"{where} does not have the size that was uploaded; check the store, and run again."
            raise StorageError(message)
        return Transfer(self._output.bytes_read, copied, size - copied)

    def _put(self) -> StoredFile:
        data, target = self._output.read(0, self._output.size_bytes), self._target
        options = {**target.name, **target.description, **target.condition, "ContentMD5": md5_of(data)}
        if self._method.checksum:
            options["ChecksumCRC32"] = self._method.checksum

        def put() -> dict[str, Any]:
            reply: dict[str, Any] = target.place.fs.call_s3("put_object", Body=data, **options)
            return reply

        return commit(target, self._output, put, abort=lambda: None)

    def _upload(self) -> StoredFile:
        upload = self._begin()
        try:
            parts = self._copied(upload) + self._sent(upload)
            if self._copies:
                self._compare_parts(upload, parts)
            options = self._target.condition
            if self._method.checksum:
                options |= {"ChecksumCRC32": self._method.checksum, "ChecksumType": "FULL_OBJECT"}
            found = commit(self._target, self._output, lambda: upload.complete(parts, options), upload.abort)
        except BaseException:
            upload.abort()
            raise
        upload.end()
        return found

    def _begin(self) -> Upload:
        checked = (
            {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"} if self._method.checksum else {}
        )
        target = self._target
        try:
            return Upload.begin(target.place, target.key, {**target.description, **checked})
        except STORE_ERRORS as error:
            raise_refusal(error, self._method)
            raise

    def _copied(self, upload: Upload) -> list[dict[str, Any]]:
        """Let the store copy parts of the source."""
        with ThreadPoolExecutor(_WORKERS) as pool:
            numbers = range(1, self._copies + 1)
            return list(pool.map(lambda number: self._copy(upload, number), numbers))

    def _copy(self, upload: Upload, number: int) -> dict[str, Any]:
        file, stop = self._output.file, number * self._part_bytes
        bucket, name, _ = self._output.source.fs.split_path(file.path)
        origin = {"Bucket": bucket, "Key": name}
        try:
            reply = upload.copy(number, origin, file.version, stop - self._part_bytes, stop)
        except STORE_ERRORS as error:
            if status_of(error) in {HTTPStatus.NOT_FOUND, HTTPStatus.PRECONDITION_FAILED}:
                self._output.check_source()
            if is_refused(error):
                self._stop_copying("the store rejects copies of parts")
            raise
        if not reply.get("ETag"):
            self._stop_copying("the store returned no result for a copied part")
        return self._part(number, reply)

    def _sent(self, upload: Upload) -> list[dict[str, Any]]:
        """Upload the other parts."""
        size, first = self._output.size_bytes, self._copies * self._part_bytes
        options = {"ChecksumAlgorithm": "CRC32"} if self._method.checksum else {}

        def send(start: int) -> dict[str, Any]:
            data = self._output.read(start, min(start + self._part_bytes, size))
            number = start // self._part_bytes + 1
            try:
                return self._part(number, upload.send(number, data, options))
            except STORE_ERRORS as error:
                raise_refusal(error, self._method)
                raise

        with ThreadPoolExecutor(max(1, min(_WORKERS, _IN_MEMORY_BYTES // self._part_bytes))) as pool:
            return list(pool.map(send, range(first, size, self._part_bytes)))

    def _part(self, number: int, reply: Mapping[str, Any]) -> dict[str, Any]:
        """A part's entry in the completion request; with checksums if the destination's options set them."""
        part = {"PartNumber": number, "ETag": reply["ETag"]}
        if "ChecksumAlgorithm" in self._target.place.fs.s3_additional_kwargs:
            sums = {name: reply[name] for name in reply if name.startswith("Checksum")}
            sums.pop("ChecksumType", None)
            part |= sums
        return part

    def _compare_parts(self, upload: Upload, parts: list[dict[str, Any]]) -> None:
        """Compare the parts with the store's list, since some stores report a copy that they did not make."""
        try:
            listed = upload.parts()
        except STORE_ERRORS as error:
            if is_refused(error):
                self._stop_copying("the store rejects listing parts")
            raise
        last = self._output.size_bytes - (len(parts) - 1) * self._part_bytes
        sizes = [self._part_bytes] * (len(parts) - 1) + [last]
        wanted = {
            part["PartNumber"]: (part["ETag"].strip('"'), size)
            for part, size in zip(parts, sizes, strict=True)
        }
        if listed != wanted:
            self._stop_copying("the store lists other parts than were copied")

    def _stop_copying(self, reason: str, replaces: StoredFile | None = None) -> NoReturn:
        raise OtherMethodError(reason, replace(self._method, copies=False), replaces=replaces)
