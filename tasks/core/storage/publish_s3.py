"""Publishes a source with a tail to S3: the store copies the source where it can, and only the rest is sent.

The object appears in one step, if what it replaces is still there. Of the source's metadata its content type
is kept. Encryption, ACL and storage class are those that the destination's options ask for
(``s3_additional_kwargs``), as for everything that s3fs writes.
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
"""Copied well within the read timeout, and small enough that three in memory are little."""
_MOST_PARTS = 9_900
"""S3 takes 10,000: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""
_WORKERS = 4
_IN_MEMORY_BYTES = 48 * 2**20
_TRIES = 6
"""Every way once, and two conflicts with others."""


def publish(output: OutputBytes, destination: Location, key: str, replaces: StoredFile | None) -> Transfer:
    """Publish an output in an S3 bucket.

    Raises:
        InputError: The source or the destination may not be read or written.
        StorageError: The store failed, or source or destination were replaced; trying again is safe.
    """
    with translate_errors(destination.url, key):
        target = Target(destination, key, replaces, first_method(output, destination))
        for _ in range(_TRIES):
            try:
                return _Publication(output, target).run()
            except OtherMethodError as other:
                logger.info("%s: %s; publishing it in another way", destination.url_of(key), other)
                target = Target(destination, key, other.replaces or target.replaces, other.way)
    message = f"{destination.url_of(key)} was not published: the store refused it repeatedly; run again."
    raise StorageError(message)


class _Publication:
    """One attempt, in one way."""

    def __init__(self, output: OutputBytes, target: Target) -> None:
        self._output, self._target, self._way = output, target, target.way
        size = output.file.size_bytes
        wanted = min(_PART_BYTES, max(SMALLEST_PART_BYTES, size // _WORKERS))
        wanted = max(wanted, -(-output.size_bytes // _MOST_PARTS))
        # All parts but the last have one size, since some stores want that; of a source that is copied as few
        # bytes as possible are left over, which have to be sent.
        self._copies = size // wanted if self._way.copies else 0
        self._part_bytes = size // self._copies if self._copies else wanted

    def run(self) -> Transfer:
        """Publish and compare."""
        size, copied = self._output.size_bytes, self._copies * self._part_bytes
        found = self._upload() if copied or size > _PART_BYTES else self._put()
        # Bytes that were sent were compared by the store, by their Content-MD5.
        if found.size_bytes != size or (copied and not is_equal(self._target, found, self._output)):
            where = self._target.place.url_of(self._target.key)
            if copied:
                logger.warning("%s: the store copied other bytes than its source's; sending them", where)
                self._stop_copying("wrong copy", found)
            message = f"{where} does not have the size that was sent; check the store, and run again."
            raise StorageError(message)
        return Transfer(self._output.bytes_read, copied, size - copied)

    def _put(self) -> StoredFile:
        data, target = self._output.read(0, self._output.size_bytes), self._target
        options = {**target.name, **target.description, **target.condition, "ContentMD5": md5_of(data)}
        if self._way.checksum:
            options["ChecksumCRC32"] = self._way.checksum

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
            if self._way.checksum:
                options |= {"ChecksumCRC32": self._way.checksum, "ChecksumType": "FULL_OBJECT"}
            found = commit(self._target, self._output, lambda: upload.complete(parts, options), upload.abort)
        except BaseException:
            upload.abort()
            raise
        upload.end()
        return found

    def _begin(self) -> Upload:
        checked = {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"} if self._way.checksum else {}
        target = self._target
        try:
            return Upload.begin(target.place, target.key, {**target.description, **checked})
        except STORE_ERRORS as error:
            raise_refusal(error, self._way)
            raise

    def _copied(self, upload: Upload) -> list[dict[str, Any]]:
        """Have the store copy parts."""
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
                self._stop_copying("no part copy")
            raise
        if not reply.get("ETag"):
            self._stop_copying("part copy without result")
        return self._part(number, reply)

    def _sent(self, upload: Upload) -> list[dict[str, Any]]:
        """Send the other parts."""
        size, first = self._output.size_bytes, self._copies * self._part_bytes
        options = {"ChecksumAlgorithm": "CRC32"} if self._way.checksum else {}

        def send(start: int) -> dict[str, Any]:
            data = self._output.read(start, min(start + self._part_bytes, size))
            number = start // self._part_bytes + 1
            try:
                return self._part(number, upload.send(number, data, options))
            except STORE_ERRORS as error:
                raise_refusal(error, self._way)
                raise

        with ThreadPoolExecutor(max(1, min(_WORKERS, _IN_MEMORY_BYTES // self._part_bytes))) as pool:
            return list(pool.map(send, range(first, size, self._part_bytes)))

    def _part(self, number: int, reply: Mapping[str, Any]) -> dict[str, Any]:
        """How a part is named at completion; with checksums if the destination's options ask for them."""
        part = {"PartNumber": number, "ETag": reply["ETag"]}
        if "ChecksumAlgorithm" in self._target.place.fs.s3_additional_kwargs:
            sums = {name: reply[name] for name in reply if name.startswith("Checksum")}
            sums.pop("ChecksumType", None)
            part |= sums
        return part

    def _compare_parts(self, upload: Upload, parts: list[dict[str, Any]]) -> None:
        """Some stores answer that they copied and did not: only their list of parts shows it."""
        try:
            listed = upload.parts()
        except STORE_ERRORS as error:
            if is_refused(error):
                self._stop_copying("no list of parts")
            raise
        last = self._output.size_bytes - (len(parts) - 1) * self._part_bytes
        sizes = [self._part_bytes] * (len(parts) - 1) + [last]
        wanted = {
            part["PartNumber"]: (part["ETag"].strip('"'), size)
            for part, size in zip(parts, sizes, strict=True)
        }
        if listed != wanted:
            self._stop_copying("wrong parts")

    def _stop_copying(self, reason: str, replaces: StoredFile | None = None) -> NoReturn:
        raise OtherMethodError(reason, replace(self._way, copies=False), replaces=replaces)
