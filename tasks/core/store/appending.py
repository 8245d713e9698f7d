from dataclasses import dataclass
from typing import BinaryIO

from tasks.core.store import publishing


@dataclass(frozen=True, slots=True)
class Tail:
    file: BinaryIO
    start: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Moved:
    bytes_read: int = 0
    bytes_copied: int = 0
    bytes_uploaded: int = 0


def publish_appended(source, file, tail, destination, key, replaces):
    with publishing.aside(destination) as built:
        tail.file.seek(tail.start)
        data = source.fs.cat_file(file.path)
        built.write_bytes(data + tail.file.read())
        publishing.publish(built, destination, key)
    return Moved(len(data))
