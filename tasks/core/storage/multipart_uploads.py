"""Multipart uploads to S3; each is recorded in the ledger's folder from before its first part until its end.

S3 keeps and bills the parts of an unfinished upload until it is aborted. The next run finds the upload of a
killed process by its record and aborts it; uploads of other programs are never touched.
"""

import base64
import errno
import hashlib
import json
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Self

from tasks.core.storage import atomic_write, stored_files
from tasks.core.storage.location import Location
from tasks.core.storage.storage_errors import STORE_ERRORS, status_of, translate_errors

FOLDER = "_ledger/uploads"
_RECORD = re.compile(r"[0-9a-f]{32}\.json")
_ABORT_TRIES = 5
"""A part in flight may be stored after its upload was aborted, so AWS recommends to list the parts and to
abort again. More tries delay the error for a store that never finishes, fewer report it too early; not
measured."""
_NO_LISTING = {HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED}


class Upload:
    """One upload. Parts may be sent and copied from several threads; errors of the client are not translated.

    Args:
        place: The destination.
        which: Bucket, key and id of the upload, as parameters of botocore.
        record: Key of its record.
    """

    def __init__(self, place: Location, which: Mapping[str, str], record: str) -> None:
        self._place, self._which, self._record = place, dict(which), record
        self._has_ended = False

    @classmethod
    def begin(cls, place: Location, key: str, options: Mapping[str, Any]) -> Self:
        """Create an upload and record it.

        Args:
            place: The destination.
            key: The target key, relative to the destination.
            options: Parameters of ``create_multipart_upload``.
        """
        reply = place.fs.call_s3("create_multipart_upload", **_object(place, key), **options)
        which = {**_object(place, key), "UploadId": reply["UploadId"]}
        record = f"{FOLDER}/{uuid.uuid4().hex}.json"
        upload = cls(place, which, record)
        try:
            content = {"key": key, "upload_id": reply["UploadId"]}
            atomic_write.write(place, record, json.dumps(content).encode())
        except BaseException:
            upload.abort()
            raise
        return upload

    def copy(
        self, number: int, origin: Mapping[str, str], version: str, start: int, stop: int
    ) -> dict[str, Any]:
        """Copy a range of an object of the same store as a part; returns the store's reply."""
        reply = self._call(
            "upload_part_copy",
            PartNumber=number,
            CopySource=dict(origin),
            CopySourceIfMatch=f'"{version}"',
            CopySourceRange=f"bytes={start}-{stop - 1}",
        )
        return reply.get("CopyPartResult") or {}

    def send(self, number: int, data: bytes, options: Mapping[str, Any]) -> dict[str, Any]:
        """Send a part with a checksum that the store verifies; returns the store's reply."""
        return self._call("upload_part", PartNumber=number, Body=data, ContentMD5=md5_of(data), **options)

    def parts(self) -> dict[int, tuple[str, int]]:
        """ETag and size in bytes of each stored part, by part number."""
        listed: dict[int, tuple[str, int]] = {}
        page: dict[str, Any] = {}
        while True:
            reply = self._call("list_parts", **page)
            for part in reply.get("Parts", []):
                listed[part["PartNumber"]] = part["ETag"].strip('"'), part["Size"]
            if not reply.get("IsTruncated"):
                return listed
            page = {"PartNumberMarker": reply["NextPartNumberMarker"]}

    def complete(self, parts: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> dict[str, Any]:
        """Make the object visible; returns the store's reply."""
        return self._call("complete_multipart_upload", MultipartUpload={"Parts": list(parts)}, **options)

    def end(self) -> None:
        """Remove the record of a completed upload; a record left behind costs the next run one request."""
        self._has_ended = True
        with suppress(*STORE_ERRORS):
            self._place.fs.rm_file(self._place.path(self._record))

    def abort(self) -> None:
        """Abort the upload and remove its record; if the store does not answer, the record stays."""
        if self._has_ended:
            return
        self._has_ended = True
        with suppress(*STORE_ERRORS):
            _abort(self._place.fs, self._which)
            self.end()

    def _call(self, method: str, **options: Any) -> dict[str, Any]:
        reply: dict[str, Any] = self._place.fs.call_s3(method, **self._which, **options)
        return reply


def abort_recorded(place: Location) -> int:
    """Abort the uploads of killed runs; requires the destination's lease.

    Returns:
        The number of uploads aborted.

    Raises:
        StorageError: The store does not answer.
    """
    found = stored_files.list_files(place, place.path(FOLDER)) if place.is_s3 else []
    records = [file for file in found if _RECORD.fullmatch(file.path.rpartition("/")[2])]
    contents = stored_files.read_files(place, [file.path for file in records]) if records else []
    for file, content in zip(records, contents, strict=True):
        with translate_errors(place.url, FOLDER):
            if isinstance(content, Exception):
                raise content
            # A file of another program is not a record of an upload.
            with suppress(ValueError, LookupError, TypeError):
                record = json.loads(content)
                _abort(place.fs, {**_object(place, record["key"]), "UploadId": record["upload_id"]})
            place.fs.rm_file(file.path)
    return len(records)


def md5_of(data: bytes) -> str:
    """The ``Content-MD5`` header of a body: protects against transmission errors, not against attacks."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _object(place: Location, key: str) -> dict[str, str]:
    bucket, name, _ = place.fs.split_path(place.path(key))
    return {"Bucket": bucket, "Key": name}


def _abort(fs: Any, which: Mapping[str, str]) -> None:
    """Abort an upload until no part of it is left."""
    for _ in range(_ABORT_TRIES):
        # Not found: already aborted, or completed.
        with suppress(FileNotFoundError):
            fs.call_s3("abort_multipart_upload", **which)
        try:
            if not fs.call_s3("list_parts", MaxParts=1, **which).get("Parts"):
                return
        except FileNotFoundError:
            return
        except STORE_ERRORS as error:
            if status_of(error) in _NO_LISTING:
                return
            raise
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
