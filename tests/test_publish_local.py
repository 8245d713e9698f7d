"""Publishing on a local disk: ways of copying, and concurrent changes of source and destination."""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from tasks.core.errors import StorageError
from tasks.core.storage.location import locate
from tasks.core.storage.publish import Tail, publish_appended
from tests.publish_setup import KEY, MEGABYTE, OLD, PublishCase, get, put, tail_of

OTHER_DISK = Path("/dev/shm")  # noqa: S108 - another filesystem than that of tmp_path


@dataclass
class Meanwhile:
    """The file of a tail; its first read, after the source was copied, calls a function."""

    file: BinaryIO
    action: Callable[[], object]
    has_acted: bool = False

    def fileno(self) -> int:
        if not self.has_acted:
            self.has_acted = True
            self.action()
        return self.file.fileno()


def publish_while(case: PublishCase, action: Callable[[], object]) -> None:
    file, replaces = case.listed()
    with tail_of(case.tail) as tail:
        late = Tail(cast("BinaryIO", Meanwhile(tail.file, action)), tail.start, tail.size_bytes)
        publish_appended(case.source, file, late, case.destination, KEY, replaces)


def rewrite(path: Path) -> None:
    """Overwrite a file with other content of the same size."""
    with path.open("r+b") as file:
        file.write(b"changed")


def rename_over(path: Path) -> None:
    """Replace a file by another one with the same size and times."""
    other, times = path.with_name("other"), path.stat()
    other.write_bytes(bytes(times.st_size))
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [rewrite, rename_over, Path.unlink])
def test_a_source_that_changes_while_it_is_copied_is_not_published(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    case = PublishCase.at(str(tmp_path), old=True)
    with pytest.raises(StorageError, match=r"replaced while|does not exist"):
        publish_while(case, lambda: change(Path(case.source.path(KEY))))
    assert get(case.destination) == OLD
    assert case.leftovers() == []


@pytest.mark.parametrize("old", [False, True], ids=["new", "replaced"])
def test_an_output_published_by_another_writer_during_the_copy_is_kept(
    tmp_path: Path,
    old: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    case = PublishCase.at(str(tmp_path), old=old)
    with pytest.raises(StorageError, match="replaced by another writer"):
        publish_while(case, lambda: put(case.destination, b"of another run"))
    assert get(case.destination) == b"of another run"
    assert case.leftovers() == []


def test_a_source_on_the_same_disk_is_copied_by_the_kernel(tmp_path: Path) -> None:
    case = PublishCase.at(str(tmp_path), 20 * MEGABYTE)
    moved = case.publish()
    assert (moved.bytes_copied, moved.bytes_uploaded) == (len(case.data), 0)
    assert moved.bytes_read < 22 * 2**16
    assert get(case.destination) == case.output


@pytest.mark.skipif(not OTHER_DISK.is_dir(), reason="there is no second file system")
def test_a_source_on_another_disk_is_copied_completely(tmp_path: Path) -> None:
    case = PublishCase.at(str(tmp_path), 20 * MEGABYTE)
    place = locate(f"{OTHER_DISK}/{tmp_path.name}-{os.getpid()}")
    there = PublishCase(place.url, case.source, place, case.data, case.tail)
    try:
        moved = there.publish()
        assert get(place) == case.output
        # Some kernels can copy between filesystems, too.
        assert moved.bytes_copied in {0, len(case.data)}
        assert moved.bytes_copied + moved.bytes_read >= len(case.data)
    finally:
        place.fs.rm(place.root, recursive=True)


def test_the_output_is_a_separate_file_with_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    case = PublishCase.at(str(tmp_path), 1000)
    before = os.umask(0o027)
    try:
        case.publish()
    finally:
        os.umask(before)
    target = Path(case.destination.path(KEY))
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    with Path(case.source.path(KEY)).open("ab") as file:
        file.write(b"more")
    assert target.read_bytes() == case.output
    assert target.stat().st_nlink == 1


def test_new_files_are_published_on_a_disk_without_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "hardlink_to", fail)
    case = PublishCase.at(str(tmp_path))
    case.publish()
    assert get(case.destination) == case.output
    case = PublishCase.at(str(tmp_path / "second"))
    with pytest.raises(StorageError, match="replaced by another writer"):
        publish_while(case, lambda: put(case.destination, b"of another run"))
    assert get(case.destination) == b"of another run"
