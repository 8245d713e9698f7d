"""Publishing on a local disk: how its bytes get there, and what changes meanwhile."""

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
from tests.publish_setup import KEY, MEGABYTE, OLD, Scene, get, put, tail_of

OTHER_DISK = Path("/dev/shm")  # noqa: S108 - a file system that is not the tests'


@dataclass
class Meanwhile:
    """The tail's file, whose first reading, after the source was copied, lets something happen."""

    file: BinaryIO
    action: Callable[[], object]
    has_acted: bool = False

    def fileno(self) -> int:
        if not self.has_acted:
            self.has_acted = True
            self.action()
        return self.file.fileno()


def publish_while(scene: Scene, action: Callable[[], object]) -> None:
    file, replaces = scene.listed()
    with tail_of(scene.tail) as tail:
        late = Tail(cast("BinaryIO", Meanwhile(tail.file, action)), tail.start, tail.size_bytes)
        publish_appended(scene.source, file, late, scene.destination, KEY, replaces)


def rewrite(path: Path) -> None:
    """The same file with other content of the same size."""
    with path.open("r+b") as file:
        file.write(b"changed")


def rename_over(path: Path) -> None:
    """Another file of the same size and times."""
    other, times = path.with_name("other"), path.stat()
    other.write_bytes(bytes(times.st_size))
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [rewrite, rename_over, Path.unlink])
def test_a_source_that_changes_while_it_is_copied_is_not_published(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    scene = Scene.at(str(tmp_path), old=True)
    with pytest.raises(StorageError, match=r"replaced while|not there"):
        publish_while(scene, lambda: change(Path(scene.source.path(KEY))))
    assert get(scene.destination) == OLD
    assert scene.leftovers() == []


@pytest.mark.parametrize("old", [False, True], ids=["new", "replaced"])
def test_what_others_publish_while_a_source_is_copied_is_kept(
    tmp_path: Path,
    old: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    scene = Scene.at(str(tmp_path), old=old)
    with pytest.raises(StorageError, match="replaced by another writer"):
        publish_while(scene, lambda: put(scene.destination, b"of another run"))
    assert get(scene.destination) == b"of another run"
    assert scene.leftovers() == []


def test_a_source_on_the_same_disk_is_copied_by_the_disk(tmp_path: Path) -> None:
    scene = Scene.at(str(tmp_path), 20 * MEGABYTE)
    moved = scene.publish()
    assert (moved.bytes_copied, moved.bytes_uploaded) == (len(scene.data), 0)
    assert moved.bytes_read < 22 * 2**16
    assert get(scene.destination) == scene.output


@pytest.mark.skipif(not OTHER_DISK.is_dir(), reason="there is no second file system")
def test_a_source_on_another_disk_arrives_whole(tmp_path: Path) -> None:
    scene = Scene.at(str(tmp_path), 20 * MEGABYTE)
    place = locate(f"{OTHER_DISK}/{tmp_path.name}-{os.getpid()}")
    there = Scene(place.url, scene.source, place, scene.data, scene.tail)
    try:
        moved = there.publish()
        assert get(place) == scene.output
        # Some kernels copy from one file system to another, too.
        assert moved.bytes_copied in {0, len(scene.data)}
        assert moved.bytes_copied + moved.bytes_read >= len(scene.data)
    finally:
        place.fs.rm(place.root, recursive=True)


def test_the_output_is_a_file_of_its_own_with_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    scene = Scene.at(str(tmp_path), 1000)
    before = os.umask(0o027)
    try:
        scene.publish()
    finally:
        os.umask(before)
    target = Path(scene.destination.path(KEY))
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    with Path(scene.source.path(KEY)).open("ab") as file:
        file.write(b"more")
    assert target.read_bytes() == scene.output
    assert target.stat().st_nlink == 1


def test_a_disk_without_links_publishes_new_files_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "hardlink_to", fail)
    scene = Scene.at(str(tmp_path))
    scene.publish()
    assert get(scene.destination) == scene.output
    scene = Scene.at(str(tmp_path / "second"))
    with pytest.raises(StorageError, match="replaced by another writer"):
        publish_while(scene, lambda: put(scene.destination, b"of another run"))
    assert get(scene.destination) == b"of another run"
