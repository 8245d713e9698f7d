"""Listing and reading, on this machine's disk and on a real S3 server."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem

from tasks.core.errors import InputError, PartitionError, StorageError
from tasks.core.storage import reading, stored_files
from tasks.core.storage.location import Location, locate

KEYS = sorted(
    [
        "a.parquet",
        "nested/deep/b.parquet",
        "year=2024/month=1/c.parquet",
        "with space/d e.parquet",
        "percent%20/e%2F.parquet",
        "hash#1/f#.parquet",
        "brackets[x]/g[0].parquet",
        "ünï/日本.parquet",
        "plus+/h+&;.parquet",
    ]
)


@pytest.fixture(params=["local", "s3", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """An empty folder on each kind of filesystem."""
    if request.param == "s3":
        return locate(f"{request.getfixturevalue('bucket')}/some folder")
    return locate(str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}{id(tmp_path)}/x")


def put(place: Location, key: str, data: bytes) -> None:
    if place.is_local:
        Path(place.path(key)).parent.mkdir(parents=True, exist_ok=True)
    place.fs.pipe_file(place.path(key), data)


def test_every_file_is_listed_with_path_size_and_version(place: Location) -> None:
    for size, key in enumerate(KEYS):
        put(place, key, b"x" * size)
    found = stored_files.list_files(place, place.root)
    assert [file.path for file in found] == [place.path(key) for key in KEYS]
    assert {file.path: file.size_bytes for file in found} == {place.path(k): n for n, k in enumerate(KEYS)}
    assert all(file.version for file in found)


def test_an_empty_or_missing_folder_has_no_files(place: Location) -> None:
    assert stored_files.list_files(place, place.root) == []
    assert stored_files.list_files(place, place.path("missing/folder")) == []


def test_listing_one_file_does_not_return_files_whose_names_start_with_its_name(place: Location) -> None:
    put(place, "data/a.parquet", b"1")
    put(place, "data2/b.parquet", b"2")
    assert [file.path for file in stored_files.list_files(place, place.path("data/a.parquet"))] == [
        place.path("data/a.parquet")
    ]
    assert [file.path for file in stored_files.list_files(place, place.path("data"))] == [
        place.path("data/a.parquet")
    ]


def test_a_new_key_and_a_new_version_are_seen_at_once(place: Location) -> None:
    put(place, "a", b"1")
    (before,) = stored_files.list_files(place, place.root)
    put(place, "a", b"22")
    put(place, "b", b"3")
    after = stored_files.list_files(place, place.root)
    assert len(after) == 2
    assert after[0] != before


def test_tails_of_files_are_in_order_and_a_missing_file_has_its_error(
    place: Location,
) -> None:
    for number in range(40):
        put(place, f"f{number}", b"%03d" % number * 10)
    put(place, "empty", b"")
    wanted = [(place.path(f"f{n}"), 30) for n in range(40)]
    tails = stored_files.read_tails(
        place, [*wanted, (place.path("missing"), 30), (place.path("empty"), 0)], 3
    )
    assert tails[:40] == [b"%03d" % number for number in range(40)]
    assert isinstance(tails[40], FileNotFoundError)
    assert tails[41] == b""


def test_folder_markers_are_not_files(bucket: str) -> None:
    place = locate(f"{bucket}/data")
    client = place.fs
    for marker in ("data/", "data/sub.parquet/"):
        client.call_s3("put_object", Bucket=bucket.removeprefix("s3://"), Key=marker, Body=b"")
    put(place, "sub.parquet/part.parquet", b"x")
    assert [file.path for file in stored_files.list_files(place, place.root)] == [
        place.path("sub.parquet/part.parquet")
    ]


def test_reading_a_file_replaced_meanwhile_is_a_storage_error(place: Location) -> None:
    put(place, "a", b"1" * 20_000_000)
    with (  # noqa: PT012 - raised when the file is closed
        pytest.raises(StorageError, match="replaced while it was read; run again"),
        reading.open_to_read(place, stored_files.stat(place, place.path("a"))) as file,
    ):
        assert file.read(4) == b"1111"
        put(place, "a", b"2" * 20_000_001)


def test_a_file_replaced_while_it_is_read_is_reported_as_replaced_not_as_corrupt(place: Location) -> None:
    put(place, "a", b"1")
    with (  # noqa: PT012 - what is raised passes through
        pytest.raises(StorageError, match="replaced"),
        reading.open_to_read(place, stored_files.stat(place, place.path("a"))),
    ):
        put(place, "a", b"22")
        message = "looks corrupt"
        raise PartitionError(message)


def test_opening_a_missing_file_is_a_storage_error_that_says_so(place: Location) -> None:
    with (
        pytest.raises(StorageError, match="does not exist"),
        reading.open_to_read(place, stored_files.stat(place, place.path("missing"))),
    ):
        pass


PROBE = """
import sys, time
from tasks.core.storage import stored_files
from tasks.core.errors import PipelineError
from tasks.core.storage.location import locate
began = time.monotonic()
try:
    stored_files.list_files(place := locate(sys.argv[1]), place.root)
except PipelineError as error:
    print(type(error).__name__, error, repr(error.__cause__))
print(time.monotonic() - began)
"""


def probe(url: str, **environment: str) -> tuple[str, float]:
    """List a folder in another process, whose clients have not seen the test's environment."""
    ended = subprocess.run(
        [sys.executable, "-c", PROBE, url],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    said, _, seconds = ended.stdout.strip().rpartition("\n")
    return said, float(seconds)


def test_wrong_credentials_are_one_clear_sentence_without_the_secret(bucket: str) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"):
        said, _ = probe(f"{bucket}/x", **{name: "wrong-and-private"})
        assert said.startswith("InputError Access to s3://")
        assert "is denied: check the credentials" in said
        assert "private" not in said


def test_no_credentials_at_all_are_an_input_error(bucket: str) -> None:
    nothing = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"}
    said, _ = probe(f"{bucket}/x", HOME="/nonexistent", **nothing)
    assert said.startswith("InputError ")


def test_a_dead_endpoint_is_a_storage_error_within_seconds(bucket: str) -> None:
    said, seconds = probe(f"{bucket}/x", AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert said.startswith(f"StorageError {bucket}/x: EndpointConnectionError")
    assert "check the address" in said
    assert seconds < 8


def test_links_to_local_folders_are_followed_and_a_loop_of_links_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.parquet").write_bytes(b"x")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "real")
    place = locate(str(tmp_path / "in"))
    assert [file.path for file in stored_files.list_files(place, place.root)] == [
        place.path("link/a.parquet")
    ]
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "real")
    with pytest.raises(StorageError, match="Too many levels of symbolic links"):
        stored_files.list_files(place, place.root)


@contextmanager
def without_privileges() -> Iterator[None]:
    """Run as the user nobody, since root may read everything."""
    user = os.geteuid()
    os.seteuid(65534 if user == 0 else user)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_local_folder_without_read_permission_is_an_error() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        closed = Path(folder, "closed")
        closed.mkdir()
        (closed / "a.parquet").write_bytes(b"x")
        closed.chmod(0)
        with without_privileges(), pytest.raises(InputError, match="is denied"):
            stored_files.list_files(place := locate(folder), place.root)
        closed.chmod(0o755)


def test_names_with_a_prefix_are_only_those_directly_in_the_folder(tmp_path: Path, bucket: str) -> None:
    for url in (f"{tmp_path}/out", f"{bucket}/out", bucket):
        place = locate(url)
        assert stored_files.names_with_prefix(place, "_ledger", "lease-") == []
        for key in ("lease-2", "lease-1", "other", "deep/er"):
            place.fs.makedirs(place.path("_ledger/deep"), exist_ok=True)
            place.fs.pipe_file(place.path(f"_ledger/{key}"), b"x")
        assert sorted(stored_files.names_with_prefix(place, "_ledger", "lease-")) == ["lease-1", "lease-2"]


class BusyFolder(LocalFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """A disk on which another program removes each file as soon as it is listed."""

    def info(self, path: str, **how: object) -> dict[str, object]:
        Path(path).unlink()
        facts: dict[str, object] = super().info(path, **how)
        return facts


def test_a_local_file_removed_during_the_listing_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"x")
    assert stored_files.list_files(Location("the disk", str(tmp_path), BusyFolder()), str(tmp_path)) == []


def test_the_error_for_a_broken_link_names_the_link(tmp_path: Path) -> None:
    (tmp_path / "gone.parquet").symlink_to(tmp_path / "nowhere")
    place = locate(str(tmp_path))
    with pytest.raises(StorageError, match=r"gone\.parquet.* does not exist"):
        stored_files.list_files(place, place.root)
