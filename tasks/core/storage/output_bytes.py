"""The bytes of an output: the whole source, pinned to the version that was listed, then a tail."""

import hashlib
import os
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import aiohttp
from botocore.exceptions import BotoCoreError
from fsspec.asyn import sync

from tasks.core.errors import StorageError
from tasks.core.escaping import printable
from tasks.core.storage import stored_files
from tasks.core.storage.location import Location
from tasks.core.storage.storage_errors import translate_errors
from tasks.core.storage.stored_files import StoredFile

_STEP_BYTES = 8 * 2**20
"""One step in memory; larger steps did not make copying faster, smaller ones are more requests to a store."""
_SAMPLES, _SAMPLE_BYTES = 21, 2**14
"""At 21 places of a gigabyte, comparing takes 0.2 s on a local store and 0.3 MB of traffic on each side."""
_READ_TRIES = 3


@dataclass(frozen=True, slots=True)
class Tail:
    """What is appended to the source.

    Attributes:
        file: An open, seekable file with a file descriptor; its position is neither used nor moved.
        start: Offset in the file of the first byte to append.
        size_bytes: How many bytes to append.
    """

    file: BinaryIO
    start: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """What publishing an output took.

    Attributes:
        bytes_read: Bytes of the source that came through this machine, samples that were compared included.
        bytes_copied: Bytes of the source that the store or the disk copied by itself.
        bytes_uploaded: Bytes sent to the destination's store; 0 on a local disk.
    """

    bytes_read: int = 0
    bytes_copied: int = 0
    bytes_uploaded: int = 0


class OutputBytes:
    """An output's bytes by their offset; every method may be called from several threads.

    Args:
        source: Where the source file is.
        file: The source file as it was listed.
        tail: What comes after it.

    Attributes:
        source: As given.
        file: As given.
        tail: As given.
        size_bytes: Size of source and tail together.
        bytes_read: How much of the source was read so far.
    """

    def __init__(self, source: Location, file: StoredFile, tail: Tail) -> None:
        self.source, self.file, self.tail = source, file, tail
        self.size_bytes = file.size_bytes + tail.size_bytes
        self.bytes_read = 0
        self._lock = threading.Lock()

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from one offset to another.

        Raises:
            StorageError: The source does not answer, or has changed.
        """
        joint = self.file.size_bytes
        data = self._read_source(start, min(stop, joint)) if start < joint else b""
        if stop > joint:
            data += self._read_tail(max(start - joint, 0), stop - joint)
        return data

    def check_source(self) -> None:
        """Check that the source is still what was listed.

        Raises:
            StorageError: It was replaced or removed.
        """
        stored_files.check_unchanged(self.source, self.file)

    def write_to(self, file: BinaryIO, start: int) -> bytes:
        """Write everything from an offset on to the same offset of a file; returns its digest."""
        digest = hashlib.blake2b()
        file.seek(start)
        for at in range(start, self.size_bytes, _STEP_BYTES):
            data = self.read(at, min(at + _STEP_BYTES, self.size_bytes))
            digest.update(data)
            file.write(data)
        file.flush()
        return digest.digest()

    def checksum_of_tail(self) -> int:
        """The tail's CRC-32."""
        checksum = 0
        for start in range(0, self.tail.size_bytes, _STEP_BYTES):
            stop = min(start + _STEP_BYTES, self.tail.size_bytes)
            checksum = zlib.crc32(self._read_tail(start, stop), checksum)
        return checksum

    def samples(self) -> list[tuple[int, int]]:
        """Ranges to compare after copying: of the source, the joint, and the tail (all of a small one)."""
        joint, half = self.file.size_bytes, _SAMPLE_BYTES // 2
        around = (max(0, joint - half), min(self.size_bytes, joint + half))
        return [*_spread(0, joint), around, *_spread(joint, self.size_bytes)]

    def _read_source(self, start: int, stop: int) -> bytes:
        data = read_range(self.source, self.file, start, stop)
        with self._lock:
            self.bytes_read += len(data)
        return data

    def _read_tail(self, start: int, stop: int) -> bytes:
        data = b""
        while len(data) < stop - start:
            offset = self.tail.start + start + len(data)
            more = os.pread(self.tail.file.fileno(), stop - start - len(data), offset)
            if not more:
                message = "The temporary file with the new columns is shorter than it was; run again."
                raise StorageError(message)
            data += more
        return data


def read_range(location: Location, file: StoredFile, start: int, stop: int) -> bytes:
    """Read a range of a file; on S3 of exactly the version that was found.

    Raises:
        StorageError: The store does not answer, or the file was replaced.
    """
    with translate_errors(location.url, file.path):
        read = _read_s3 if location.is_s3 else _read_any
        data = read(location.fs, file, start, stop) if stop > start else b""
    if len(data) != stop - start:
        message = f"{location.url} ({printable(file.path)}) was replaced while it was read; run again."
        raise StorageError(message)
    return data


def digest_of(file: BinaryIO, start: int) -> bytes:
    """Digest of a file from an offset on, as ``Appended.write_to`` makes it."""
    digest = hashlib.blake2b()
    file.seek(start)
    while data := file.read(_STEP_BYTES):
        digest.update(data)
    return digest.digest()


def _spread(start: int, stop: int) -> list[tuple[int, int]]:
    if stop - start <= _SAMPLES * _SAMPLE_BYTES:
        return [(start, stop)] if stop > start else []
    last = stop - start - _SAMPLE_BYTES
    places = [start + last * place // (_SAMPLES - 1) for place in range(_SAMPLES)]
    return [(place, place + _SAMPLE_BYTES) for place in places]


def _read_any(fs: Any, file: StoredFile, start: int, stop: int) -> bytes:
    return cast("bytes", fs.cat_file(file.path, start=start, end=stop))


def _read_s3(fs: Any, file: StoredFile, start: int, stop: int) -> bytes:
    bucket, key, _ = fs.split_path(file.path)
    which = {"Bucket": bucket, "Key": key, "IfMatch": f'"{file.version}"'}

    def read() -> bytes:
        reply = fs.call_s3("get_object", **which, Range=f"bytes={start}-{stop - 1}")
        return cast("bytes", sync(fs.loop, _read_body, reply["Body"]))

    return _repeated(read)


async def _read_body(body: Any) -> bytes:
    """Reads and closes where the connection lives, in the loop of s3fs."""
    try:
        return cast("bytes", await body.read())
    finally:
        body.close()


def _repeated(read: Callable[[], bytes]) -> bytes:
    """The client repeats requests, not the reading of a reply's body that was cut off."""
    for _ in range(_READ_TRIES - 1):
        try:
            return read()
        except (aiohttp.ClientError, BotoCoreError, TimeoutError, ConnectionError):
            continue
    return read()
