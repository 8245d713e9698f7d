"""The bytes of an output: the whole source file, in the version that was listed, followed by a tail."""

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
"""Memory against number of requests: larger steps did not make copying faster, smaller ones need more
requests to a store."""
_SAMPLES, _SAMPLE_BYTES = 21, 2**14
"""More samples find more kinds of wrong copies, fewer cost less. Measured: for a gigabyte, comparing 21
samples takes 0.2 s on a local store, and 0.3 MB of traffic on each side."""
_READ_TRIES = 3
"""More survives longer network problems, fewer reports them sooner. Chosen, not measured: each try gets as
far as a reply's body, so a store that is down fails earlier, in its client."""


@dataclass(frozen=True, slots=True)
class Tail:
    """The bytes to append to the source, in a temporary file.

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
    """Bytes transferred while publishing an output.

    Attributes:
        bytes_read: Bytes of the source read by this machine, including the samples for verification.
        bytes_copied: Bytes of the source copied by the store or the filesystem itself.
        bytes_uploaded: Bytes sent to the destination's store; 0 on a local disk.
    """

    bytes_read: int = 0
    bytes_copied: int = 0
    bytes_uploaded: int = 0


class OutputBytes:
    """Reads an output's bytes by offset; every method may be called from several threads.

    Args:
        source: The location of the source file.
        file: The source file as it was listed.
        tail: The bytes that follow.

    Attributes:
        source: As given.
        file: As given.
        tail: As given.
        size_bytes: Size of source and tail together.
        bytes_read: Bytes of the source read so far.
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
        """Check that the source is still the version that was listed.

        Raises:
            StorageError: It was replaced or removed.
        """
        stored_files.check_unchanged(self.source, self.file)

    def write_to(self, file: BinaryIO, start: int) -> bytes:
        """Write all bytes from an offset on to the same offset of a file; returns their digest."""
        digest = hashlib.blake2b()
        file.seek(start)
        for at in range(start, self.size_bytes, _STEP_BYTES):
            data = self.read(at, min(at + _STEP_BYTES, self.size_bytes))
            digest.update(data)
            file.write(data)
        file.flush()
        return digest.digest()

    def checksum_of_tail(self) -> int:
        """CRC-32 of the tail."""
        checksum = 0
        for start in range(0, self.tail.size_bytes, _STEP_BYTES):
            stop = min(start + _STEP_BYTES, self.tail.size_bytes)
            checksum = zlib.crc32(self._read_tail(start, stop), checksum)
        return checksum

    def samples(self) -> list[tuple[int, int]]:
        """Ranges to verify after copying: in the source, around its end, and in the tail."""
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
    """Read a range of a file; on S3, of exactly the version that was listed.

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
    """Digest of a file from an offset on, as ``OutputBytes.write_to`` computes it."""
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
    """Read and close the body in the event loop of s3fs, which owns the connection."""
    try:
        return cast("bytes", await body.read())
    finally:
        body.close()


def _repeated(read: Callable[[], bytes]) -> bytes:
    """Retry a read whose body was cut off; the client retries requests only until their headers arrive."""
    for _ in range(_READ_TRIES - 1):
        try:
            return read()
        except (aiohttp.ClientError, BotoCoreError, TimeoutError, ConnectionError):
            continue
    return read()
