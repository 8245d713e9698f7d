"""What the next run removes of a dead one's, and what it leaves alone."""

import uuid
from pathlib import Path
from typing import Any

import pytest

from tasks.core.paid.housekeeping import remove_leftovers
from tasks.core.paid.shelf import folder_of
from tasks.core.store.location import Location, locate
from tasks.core.store.uploads import Upload
from tests.paying import names

UNFINISHED = [
    f"_aside/building-{uuid.uuid4().hex}.tmp",
    # As earlier versions named it.
    f"_aside/building-{uuid.uuid4().hex}.parquet",
    f"_aside/probe-{uuid.uuid4().hex}",
]
SEGMENT = f"{folder_of('part.parquet')}/0-{uuid.uuid4().hex}.segment"
OTHERS = [
    "_aside/notes.txt",
    "_ledger/lease-000001.json",
    SEGMENT,
    "building-a.parquet",
    "day=1/part.parquet",
]


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    if request.param == "s3":
        return locate(f"{request.getfixturevalue('bucket')}/out")
    return locate(str(tmp_path / "out"))


def put(place: Location, *keys: str) -> None:
    for key in keys:
        place.fs.makedirs(place.path(key).rpartition("/")[0], exist_ok=True)
        place.fs.pipe_file(place.path(key), b"x")


def test_unfinished_files_go_and_all_others_stay(place: Location, caplog: pytest.LogCaptureFixture) -> None:
    put(place, *UNFINISHED, *OTHERS)
    with caplog.at_level("INFO"):
        remove_leftovers(place)
    assert sorted(names(place.url)) == sorted(OTHERS)
    assert "Removed 3 unfinished files" in caplog.text


def test_half_a_segment_on_a_disk_goes_and_half_a_lease_stays(tmp_path: Path) -> None:
    place, half = locate(str(tmp_path)), f".{uuid.uuid4().hex}"
    put(place, SEGMENT, f"{folder_of('part.parquet')}/{half}", f"_ledger/{half}")
    remove_leftovers(place)
    assert sorted(names(place.url)) == sorted([SEGMENT, f"_ledger/{half}"])


def test_nothing_left_is_nothing_said_and_no_folder_stays(
    place: Location, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        remove_leftovers(place)
        put(place, UNFINISHED[0])
        remove_leftovers(place)
    assert len(caplog.messages) == 1
    assert names(place.url) == []
    if place.is_local:
        assert not Path(place.path("_aside")).exists()


def begin_upload(place: Location, bucket: str, key: str) -> None:
    upload = place.fs.call_s3("create_multipart_upload", Bucket=bucket, Key=key)
    which = {"Bucket": bucket, "Key": key, "UploadId": upload["UploadId"]}
    place.fs.call_s3("upload_part", PartNumber=1, Body=b"half", **which)


def unfinished_uploads(place: Location, bucket: str) -> list[str]:
    listed: dict[str, Any] = place.fs.call_s3("list_multipart_uploads", Bucket=bucket)
    return [upload["Key"] for upload in listed.get("Uploads", [])]


@pytest.mark.parametrize("folder", ["/out", ""], ids=["folder", "whole bucket"])
def test_unfinished_uploads_of_this_program_are_aborted_and_others_stay(
    bucket: str, caplog: pytest.LogCaptureFixture, folder: str
) -> None:
    place, name = locate(f"{bucket}{folder}"), bucket.removeprefix("s3://")
    others = [f"{folder}/{key}".lstrip("/") for key in ("a.parquet", "notes.txt")]
    for key in others:
        begin_upload(place, name, key)
    for key in ("a.parquet", "day=1/b [x] é.parquet", "a.parquet", "day=1/000000_0"):
        Upload.begin(place, key, {}).send(1, b"half", {})
    assert len(unfinished_uploads(place, name)) == 6
    with caplog.at_level("INFO"):
        remove_leftovers(place)
    assert sorted(unfinished_uploads(place, name)) == sorted(others)
    assert "Aborted 4 unfinished uploads" in caplog.text
    assert names(place.url) == []


def test_a_store_that_fails_at_it_keeps_nobody_from_working(
    place: Location, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put(place, UNFINISHED[0])

    def fail(*_: object, **__: object) -> None:
        raise TimeoutError

    for method in ("rm", "rm_file"):
        monkeypatch.setattr(place.fs, method, fail)
    remove_leftovers(place)
    assert "could not be removed" in caplog.text
