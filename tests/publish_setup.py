"""A source object, a tail, and what publishing them left behind, for the tests of publishing."""

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
    """Write a file; returns it as a listing shows it."""
    path = place.path(key)
    place.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
    place.fs.pipe_file(path, data)
    found = stored_files.find_file(place, path)
    assert found
    return found


def get(place: Location, key: str = KEY) -> bytes | None:
    """A file's content; None when there is none."""
    return place.fs.cat_file(place.path(key)) if place.fs.exists(place.path(key)) else None


@contextmanager
def tail_of(data: bytes) -> Iterator[Tail]:
    """A tail that does not begin at the begin of its file."""
    with tempfile.TemporaryFile() as file:
        file.write(b"before" + data)
        file.flush()
        yield Tail(file, len(b"before"), len(data))


@dataclass(frozen=True)
class Scene:
    """A source and a destination that may hold an older output.

    Attributes:
        url: Of both, for a process of its own.
        source: Where the source is.
        destination: Where the output goes.
        data: The source's bytes.
        tail: The tail's.
    """

    url: str
    source: Location
    destination: Location
    data: bytes
    tail: bytes

    @classmethod
    def at(cls, url: str, size: int = 8 * MEGABYTE, tail: int = 1000, *, old: bool = False) -> "Scene":
        """Put a source, and an older output if wanted, below a URL."""
        scene = cls(url, locate(f"{url}/in"), locate(f"{url}/out"), os.urandom(size), os.urandom(tail))
        put(scene.source, scene.data)
        if old:
            put(scene.destination, OLD)
        return scene

    @property
    def output(self) -> bytes:
        """What the output should be."""
        return self.data + self.tail

    def listed(self) -> tuple[StoredFile, StoredFile | None]:
        """Source and older output as they are now."""
        file = stored_files.find_file(self.source, self.source.path(KEY))
        assert file
        return file, stored_files.find_file(self.destination, self.destination.path(KEY))

    def publish(self, listed: tuple[StoredFile, StoredFile | None] | None = None) -> Transfer:
        """Publish it, as listed before or now."""
        file, replaces = listed or self.listed()
        with tail_of(self.tail) as tail:
            return publish_appended(self.source, file, tail, self.destination, KEY, replaces)

    def leftovers(self) -> list[str]:
        """Unfinished uploads, records of them, and files aside."""
        place = self.destination
        found = [
            file.path
            for folder in (FOLDER, "_aside")
            for file in stored_files.list_files(place, place.path(folder))
        ]
        return [*found, *(unfinished_uploads(self.url) if place.is_s3 else [])]


def unfinished_uploads(url: str) -> list[str]:
    """Keys of the uploads in a bucket that were never completed."""
    place = locate(url)
    bucket = place.fs.split_path(place.root)[0]
    listed: dict[str, Any] = place.fs.call_s3("list_multipart_uploads", Bucket=bucket)
    return [upload["Key"] for upload in listed.get("Uploads", [])]


@contextmanager
def publishing_apart(scene: Scene, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Publish in a process of its own, which is killed at the end if it still runs."""
    (folder / "tail").write_bytes(scene.tail)
    places = (scene.source.url, scene.destination.url)
    command = [sys.executable, "-m", "tests.publish_setup", *places, str(folder / "tail")]
    with subprocess.Popen(command, cwd=ROOT) as child:
        try:
            yield child
        finally:
            child.kill()


def _main(source: str, destination: str, tail: str) -> None:
    scene = Scene(destination, locate(source), locate(destination), b"", Path(tail).read_bytes())
    scene.publish()


if __name__ == "__main__":
    _main(*sys.argv[1:])
