"""Atomic writes: a reader sees the old or the new complete file, on disk and on a real S3 server."""

import os
import stat
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from tasks.core.errors import InputError, StorageError
from tasks.core.storage import atomic_write, stored_files
from tasks.core.storage.location import Location, locate
from tasks.core.storage.publish import Tail, publish_appended

MEGABYTE = 2**20


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """An empty destination of each kind."""
    if request.param == "s3":
        return locate(f"{request.getfixturevalue('bucket')}/out")
    return locate(str(tmp_path / "out"))


def publish(place: Location, key: str, data: bytes) -> None:
    """Publish a file: its first half as a local source, the rest as the tail."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as tail:
        source = Path(folder, "source")
        source.write_bytes(data[: len(data) // 2])
        tail.write(data)
        tail.flush()
        place_of_source = locate(folder)
        found = stored_files.stat(place_of_source, str(source))
        rest = Tail(cast("BinaryIO", tail), found.size_bytes, len(data) - found.size_bytes)
        replaces = stored_files.find_file(place, place.path(key))
        publish_appended(place_of_source, found, rest, place, key, replaces)


def keys(place: Location) -> list[str]:
    return [file.path.removeprefix(f"{place.root}/") for file in stored_files.list_files(place, place.root)]


@pytest.mark.parametrize("key", ["a.parquet", "y=1/m=%20/a b#[x].parquet", "ü/日.parquet"])
def test_publishing_leaves_the_file_and_nothing_else(place: Location, key: str) -> None:
    publish(place, key, b"one")
    publish(place, key, b"two!")
    assert keys(place) == [key]
    assert place.fs.cat_file(place.path(key)) == b"two!"


def test_a_file_of_40_megabytes_arrives_whole(place: Location) -> None:
    data = os.urandom(MEGABYTE) * 40
    publish(place, "big.parquet", data)
    assert place.fs.cat_file(place.path("big.parquet")) == data


def test_readers_see_the_old_or_the_new_file_complete_while_it_is_published_50_times(place: Location) -> None:
    contents = {bytes([n]) * (3 * MEGABYTE + n) for n in range(50)}
    publish(place, "a.parquet", bytes([0]) * 3 * MEGABYTE)
    done = threading.Event()

    def read() -> int:
        seen = 0
        while not done.is_set():
            data = place.fs.cat_file(place.path("a.parquet"))
            assert data in contents, f"{len(data)} bytes"
            seen += 1
        return seen

    with ThreadPoolExecutor() as pool:
        reader = pool.submit(read)
        try:
            for data in sorted(contents):
                publish(place, "a.parquet", data)
        finally:
            done.set()
        assert reader.result() > 10


def test_a_published_local_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    place = locate(str(tmp_path))
    before = os.umask(0o027)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: publish(place, f"{n}.parquet", b"x"), range(40)))
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("*.parquet")} == {0o640}


def test_partitions_written_concurrently_do_not_remove_each_other_s_temporary_folder(tmp_path: Path) -> None:
    place = locate(str(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: publish(place, f"{n % 7}/{n}.parquet", b"x"), range(800)))
    assert sorted(path.name for path in tmp_path.iterdir()) == [str(n) for n in range(7)]


def test_checking_a_destination_leaves_no_file_behind(place: Location) -> None:
    atomic_write.check_writable(place)
    assert keys(place) == []
    assert not Path(place.root, "_aside").exists()


@pytest.mark.parametrize("bad", ["/proc/nowhere/out", "file.txt", "file.txt/out"])
def test_a_local_destination_that_cannot_be_written_is_an_input_error(tmp_path: Path, bad: str) -> None:
    (tmp_path / "file.txt").write_text("a file")
    with pytest.raises(InputError, match=r"Destination .*cannot be written"):
        atomic_write.check_writable(locate(str(tmp_path / bad)))


def test_a_missing_tmpdir_is_a_storage_error_that_names_it(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    with pytest.raises(StorageError, match=f"{tmp_path}/missing: No such file.*TMPDIR"):
        atomic_write.check_writable(locate(f"{bucket}/out"))


def test_without_tmpdir_temporary_files_go_to_the_system_s_folder(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    assert atomic_write.temporary_folder(locate(f"{bucket}/out")) == Path(tempfile.gettempdir())


def test_publishing_to_a_memory_filesystem_works() -> None:
    place = locate("memory://publishing/out")
    atomic_write.check_writable(place)
    publish(place, "y=1/a.parquet", b"x")
    assert keys(place) == ["y=1/a.parquet"]


def test_of_many_concurrent_creates_of_a_name_one_succeeds_and_its_content_stays(place: Location) -> None:
    def create(number: int) -> bool:
        return atomic_write.create_exclusive(place, "_ledger/name", b"%d" % number)

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(create, range(8)))
    assert sum(made) == 1
    assert place.fs.cat_file(place.path("_ledger/name")) == b"%d" % made.index(True)
    assert keys(place) == ["_ledger/name"]


def test_a_create_repeated_by_the_client_counts_as_successful(place: Location) -> None:
    # As when the client repeats a request whose reply was lost.
    assert atomic_write.create_exclusive(place, "name", b"mine")
    assert atomic_write.create_exclusive(place, "name", b"mine")
    assert not atomic_write.create_exclusive(place, "name", b"other")


def test_files_are_created_on_a_disk_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "hardlink_to", fail)
    place = locate(str(tmp_path))
    made = [atomic_write.create_exclusive(place, "name", data) for data in (b"one", b"two")]
    assert made == [True, False]
    assert keys(place) == ["name"]
