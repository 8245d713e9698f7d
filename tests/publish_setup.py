"""Source, tail and destination for the tests of publishing, with checks for leftover files and uploads."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.storage import stored_files
from tasks.core.storage.location import Location, locate
from tasks.core.storage.multipart_uploads import FOLDER
from tasks.core.storage.publish import Tail, Transfer, publish_appended
from tasks.core.storage.stored_files import StoredFile

MEGABYTE = 2**20
ROOT = Path(__file__).parent.parent
KEY = "day=1/part [x] é.parquet"
OLD = b"an older output"


def put(place: Location, data: bytes, key: str = KEY) -> StoredFile:
    """Write a file; returns its listing entry."""
    path = place.path(key)
    place.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
    place.fs.pipe_file(path, data)
    found = stored_files.find_file(place, path)
    assert found
    return found


def get(place: Location, key: str = KEY) -> bytes | None:
    """A file's content; None if it does not exist."""
    return place.fs.cat_file(place.path(key)) if place.fs.exists(place.path(key)) else None


@contextmanager
def tail_of(data: bytes) -> Iterator[Tail]:
    """A tail that does not start at the beginning of its file."""
    with tempfile.TemporaryFile() as file:
        file.write(b"before" + data)
        file.flush()
        yield Tail(file, len(b"before"), len(data))


@dataclass(frozen=True)
class PublishCase:
    """A source, and a destination that may contain an older output.

    Attributes:
        url: The parent folder of both.
        source: The folder of the source.
        destination: The folder of the output.
        data: The bytes of the source.
        tail: The bytes of the tail.
    """

    url: str
    source: Location
    destination: Location
    data: bytes
    tail: bytes

    @classmethod
    def at(cls, url: str, size: int = 8 * MEGABYTE, tail: int = 1000, *, old: bool = False) -> "PublishCase":
        """Write a source, and optionally an older output, below a URL."""
        case = cls(url, locate(f"{url}/in"), locate(f"{url}/out"), os.urandom(size), os.urandom(tail))
        put(case.source, case.data)
        if old:
            put(case.destination, OLD)
        return case

    @property
    def output(self) -> bytes:
        """The expected output."""
        return self.data + self.tail

    def listed(self) -> tuple[StoredFile, StoredFile | None]:
        """Listing entries of the source and the older output."""
        file = stored_files.find_file(self.source, self.source.path(KEY))
        assert file
        return file, stored_files.find_file(self.destination, self.destination.path(KEY))

    def publish(self, listed: tuple[StoredFile, StoredFile | None] | None = None) -> Transfer:
        """Publish the output, with listing entries from before or from now."""
        file, replaces = listed or self.listed()
        with tail_of(self.tail) as tail:
            return publish_appended(self.source, file, tail, self.destination, KEY, replaces)

    def leftovers(self) -> list[str]:
        """Unfinished uploads, records of uploads, and files in ``_aside``."""
        place = self.destination
        found = [
            file.path
            for folder in (FOLDER, "_aside")
            for file in stored_files.list_files(place, place.path(folder))
        ]
        return [*found, *(unfinished_uploads(self.url) if place.is_s3 else [])]


def unfinished_uploads(url: str) -> list[str]:
    """Keys of the unfinished uploads in a bucket."""
    place = locate(url)
    bucket = place.fs.split_path(place.root)[0]
    listed: dict[str, Any] = place.fs.call_s3("list_multipart_uploads", Bucket=bucket)
    return [upload["Key"] for upload in listed.get("Uploads", [])]


@contextmanager
def publishing_process(case: PublishCase, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Publish in another process, which is killed at the end if it still runs."""
    (folder / "tail").write_bytes(case.tail)
    places = (case.source.url, case.destination.url)
    command = [sys.executable, "-m", "tests.publish_setup", *places, str(folder / "tail")]
    with subprocess.Popen(command, cwd=ROOT) as child:
        try:
            yield child
        finally:
            child.kill()


def _main(source: str, destination: str, tail: str) -> None:
    case = PublishCase(destination, locate(source), locate(destination), b"", Path(tail).read_bytes())
    case.publish()


if __name__ == "__main__":
    _main(*sys.argv[1:])
