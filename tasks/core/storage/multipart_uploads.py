"""Multipart uploads to S3, each recorded in the ledger from before its first part until its end.

The parts of an upload that never ends are stored, and billed, for ever. An upload whose process was killed is
found by its record and aborted by the next run; uploads of other programs are never touched.
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
"""A part on its way may be stored after the upload was aborted, so AWS advises to look and repeat."""
_NO_LISTING = {HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED}


class Upload:
    """One upload; parts may be sent and copied from several threads. Raises what the store's client raises.

    Args:
        place: The destination.
        which: Bucket, key and id of the upload, as botocore names them.
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
            key: What is uploaded, relative to the destination.
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
        """Copy a range of an object of the same store as a part; returns the store's answer."""
        reply = self._call(
            "upload_part_copy",
            PartNumber=number,
            CopySource=dict(origin),
            CopySourceIfMatch=f'"{version}"',
            CopySourceRange=f"bytes={start}-{stop - 1}",
        )
        return reply.get("CopyPartResult") or {}

    def send(self, number: int, data: bytes, options: Mapping[str, Any]) -> dict[str, Any]:
        """Send a part, whose checksum the store compares; returns the store's answer."""
        return self._call("upload_part", PartNumber=number, Body=data, ContentMD5=md5_of(data), **options)

    def parts(self) -> dict[int, tuple[str, int]]:
        """ETag and size in bytes of every part that the store holds, by number."""
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
        """Make the object visible; returns the store's answer."""
        return self._call("complete_multipart_upload", MultipartUpload={"Parts": list(parts)}, **options)

    def end(self) -> None:
        """Forget an upload that is complete; a record that stays costs the next run one request."""
        self._has_ended = True
        with suppress(*STORE_ERRORS):
            self._place.fs.rm_file(self._place.path(self._record))

    def abort(self) -> None:
        """Abort and forget it; a store that does not answer leaves the record for the next run."""
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
    """Abort the uploads of killed runs; only for who holds the destination's lease. Returns how many.

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
            # Others' files are nothing to abort.
            with suppress(ValueError, LookupError, TypeError):
                record = json.loads(content)
                _abort(place.fs, {**_object(place, record["key"]), "UploadId": record["upload_id"]})
            place.fs.rm_file(file.path)
    return len(records)


def md5_of(data: bytes) -> str:
    """What ``Content-MD5`` says of a body; stores compare it, and it is no protection against intent."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _object(place: Location, key: str) -> dict[str, str]:
    bucket, name, _ = place.fs.split_path(place.path(key))
    return {"Bucket": bucket, "Key": name}


def _abort(fs: Any, which: Mapping[str, str]) -> None:
    """Abort an upload until nothing of it is left."""
    for _ in range(_ABORT_TRIES):
        # Not there: aborted before, or completed.
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
