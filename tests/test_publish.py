"""Publishing a source with a tail on disk, S3 and other filesystems: right bytes, atomic, no leftovers."""

from dataclasses import replace
from pathlib import Path

import pytest

from tasks.core.errors import StorageError
from tasks.core.storage import stored_files
from tasks.core.storage.location import locate
from tasks.core.storage.publish import publish_appended
from tests.publish_setup import KEY, MEGABYTE, OLD, PublishCase, get, put, tail_of

PLACES = ["local", "s3", "memory"]


@pytest.fixture(params=PLACES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty folder on each kind of filesystem."""
    if request.param == "s3":
        bucket: str = request.getfixturevalue("bucket")
        return bucket
    return str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"


@pytest.fixture(params=PLACES)
def other(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Another empty folder on each kind of filesystem."""
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/other"
    return str(tmp_path / "other") if request.param == "local" else f"memory://{tmp_path.name}/other"


@pytest.mark.parametrize("size", [100, 5 * MEGABYTE, 21 * MEGABYTE + 7])
@pytest.mark.parametrize("tail", [1, 18 * MEGABYTE])
@pytest.mark.parametrize("old", [False, True])
def test_the_output_is_the_source_then_the_tail(url: str, size: int, tail: int, old: bool) -> None:  # noqa: FBT001 - a parameter of the test
    case = PublishCase.at(url, size, tail, old=old)
    case.publish()
    assert get(case.destination) == case.output
    assert get(case.source) == case.data
    assert case.leftovers() == []


def test_a_source_is_published_from_any_filesystem_to_any_other(url: str, other: str) -> None:
    case = PublishCase.at(url, 17 * MEGABYTE)
    there = PublishCase(other, case.source, locate(f"{other}/out"), case.data, case.tail)
    for _ in range(2):
        moved = there.publish()
        assert get(there.destination) == case.output
    assert moved.bytes_read + moved.bytes_copied >= len(case.data)
    assert there.leftovers() == []


def test_a_source_that_changed_since_it_was_listed_is_not_published(url: str) -> None:
    case = PublishCase.at(url, old=True)
    listed = case.listed()
    put(case.source, case.data[::-1])
    with pytest.raises(StorageError, match="replaced"):
        case.publish(listed)
    assert get(case.destination) == OLD
    assert case.leftovers() == []


@pytest.mark.parametrize("size", [100, 8 * MEGABYTE])
@pytest.mark.parametrize("old", [False, True])
def test_an_output_published_by_another_writer_meanwhile_is_kept(url: str, size: int, old: bool) -> None:  # noqa: FBT001 - a parameter of the test
    case = PublishCase.at(url, size, old=old)
    listed = case.listed()
    put(case.destination, b"of another run")
    with pytest.raises(StorageError, match="replaced by another writer"):
        case.publish(listed)
    assert get(case.destination) == b"of another run"
    assert case.leftovers() == []


def test_an_older_output_that_was_removed_meanwhile_is_an_error(url: str) -> None:
    case = PublishCase.at(url, old=True)
    listed = case.listed()
    case.destination.fs.rm_file(case.destination.path(KEY))
    with pytest.raises(StorageError, match="replaced by another writer"):
        case.publish(listed)
    assert get(case.destination) is None
    assert case.leftovers() == []


def test_a_missing_source_is_a_storage_error(url: str) -> None:
    case = PublishCase.at(url)
    listed = case.listed()
    case.source.fs.rm_file(case.source.path(KEY))
    with pytest.raises(StorageError, match="does not exist"):
        case.publish(listed)
    assert get(case.destination) is None


def test_a_failed_publish_keeps_the_older_file_and_leaves_no_other(url: str) -> None:
    case = PublishCase.at(url, old=True)
    file, replaces = case.listed()
    with tail_of(b"short") as tail:
        longer = replace(tail, size_bytes=100)
        with pytest.raises(StorageError, match="shorter"):
            publish_appended(case.source, file, longer, case.destination, KEY, replaces)
    assert get(case.destination) == OLD
    assert case.leftovers() == []
    assert not Path(case.destination.path("_aside")).exists()


def test_stat_and_listing_return_the_same_file(url: str) -> None:
    case = PublishCase.at(url)
    file, _ = case.listed()
    assert stored_files.list_files(case.source, case.source.path("day=1")) == [file]
