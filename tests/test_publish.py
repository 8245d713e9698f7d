"""A source with a tail, published on a disk, on S3 and elsewhere: right bytes, one step, nothing left."""

from dataclasses import replace
from pathlib import Path

import pytest

from tasks.core.errors import StorageError
from tasks.core.storage import stored_files
from tasks.core.storage.location import locate
from tasks.core.storage.publish import publish_appended
from tests.publish_setup import KEY, MEGABYTE, OLD, Scene, get, put, tail_of

PLACES = ["local", "s3", "memory"]


@pytest.fixture(params=PLACES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place of each kind."""
    if request.param == "s3":
        bucket: str = request.getfixturevalue("bucket")
        return bucket
    return str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"


@pytest.fixture(params=PLACES)
def other(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place of each kind, another one."""
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/other"
    return str(tmp_path / "other") if request.param == "local" else f"memory://{tmp_path.name}/other"


@pytest.mark.parametrize("size", [100, 5 * MEGABYTE, 21 * MEGABYTE + 7])
@pytest.mark.parametrize("tail", [1, 18 * MEGABYTE])
@pytest.mark.parametrize("old", [False, True])
def test_the_output_is_the_source_then_the_tail(url: str, size: int, tail: int, old: bool) -> None:  # noqa: FBT001 - a parameter of the test
    scene = Scene.at(url, size, tail, old=old)
    scene.publish()
    assert get(scene.destination) == scene.output
    assert get(scene.source) == scene.data
    assert scene.leftovers() == []


def test_a_source_of_any_place_is_published_in_any_other(url: str, other: str) -> None:
    scene = Scene.at(url, 17 * MEGABYTE)
    there = Scene(other, scene.source, locate(f"{other}/out"), scene.data, scene.tail)
    for _ in range(2):
        moved = there.publish()
        assert get(there.destination) == scene.output
    assert moved.bytes_read + moved.bytes_copied >= len(scene.data)
    assert there.leftovers() == []


def test_a_source_that_changed_since_it_was_listed_is_not_published(url: str) -> None:
    scene = Scene.at(url, old=True)
    listed = scene.listed()
    put(scene.source, scene.data[::-1])
    with pytest.raises(StorageError, match="replaced"):
        scene.publish(listed)
    assert get(scene.destination) == OLD
    assert scene.leftovers() == []


@pytest.mark.parametrize("size", [100, 8 * MEGABYTE])
@pytest.mark.parametrize("old", [False, True])
def test_what_others_published_meanwhile_is_kept(url: str, size: int, old: bool) -> None:  # noqa: FBT001 - a parameter of the test
    scene = Scene.at(url, size, old=old)
    listed = scene.listed()
    put(scene.destination, b"of another run")
    with pytest.raises(StorageError, match="replaced by another writer"):
        scene.publish(listed)
    assert get(scene.destination) == b"of another run"
    assert scene.leftovers() == []


def test_an_older_output_that_was_removed_meanwhile_is_not_made_again(url: str) -> None:
    scene = Scene.at(url, old=True)
    listed = scene.listed()
    scene.destination.fs.rm_file(scene.destination.path(KEY))
    with pytest.raises(StorageError, match="replaced by another writer"):
        scene.publish(listed)
    assert get(scene.destination) is None
    assert scene.leftovers() == []


def test_a_source_that_is_gone_is_a_storage_error(url: str) -> None:
    scene = Scene.at(url)
    listed = scene.listed()
    scene.source.fs.rm_file(scene.source.path(KEY))
    with pytest.raises(StorageError, match="not there"):
        scene.publish(listed)
    assert get(scene.destination) is None


def test_the_older_file_of_a_failed_publish_is_untouched_and_nothing_is_left(url: str) -> None:
    scene = Scene.at(url, old=True)
    file, replaces = scene.listed()
    with tail_of(b"short") as tail:
        longer = replace(tail, size_bytes=100)
        with pytest.raises(StorageError, match="shorter"):
            publish_appended(scene.source, file, longer, scene.destination, KEY, replaces)
    assert get(scene.destination) == OLD
    assert scene.leftovers() == []
    assert not Path(scene.destination.path("_aside")).exists()


def test_found_files_are_what_a_listing_shows(url: str) -> None:
    scene = Scene.at(url)
    file, _ = scene.listed()
    assert stored_files.list_files(scene.source, scene.source.path("day=1")) == [file]
