"""What the next run removes of a dead one's, and what it leaves alone."""

import uuid
from pathlib import Path

import pytest

from tasks.core.ledger.cleanup import remove_leftovers
from tasks.core.ledger.segment_names import folder_of
from tasks.core.storage.location import Location, locate
from tasks.core.storage.multipart_uploads import FOLDER, Upload
from tests.core_runs import names
from tests.publish_setup import unfinished_uploads

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


def test_uploads_of_killed_runs_are_aborted_and_those_of_others_are_not(
    bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    place, keys = locate(f"{bucket}/out"), ["a.parquet", "day=1/b [x] é.parquet", "a.parquet"]
    for key in keys:
        Upload.begin(place, key, {}).send(1, b"half", {})
    foreign = {"Bucket": bucket.removeprefix("s3://"), "Key": "out/a.parquet"}
    upload = place.fs.call_s3("create_multipart_upload", **foreign)
    place.fs.call_s3("upload_part", UploadId=upload["UploadId"], PartNumber=1, Body=b"half", **foreign)
    assert len(unfinished_uploads(bucket)) == 4
    with caplog.at_level("INFO"):
        remove_leftovers(place)
    assert unfinished_uploads(bucket) == ["out/a.parquet"]
    assert names(place.url) == []
    assert "Aborted 3 unfinished uploads" in caplog.text


def test_a_record_of_an_upload_that_ended_or_of_nothing_is_removed(bucket: str) -> None:
    place = locate(f"{bucket}/out")
    Upload.begin(place, "a.parquet", {})
    place.fs.clear_multipart_uploads(bucket.removeprefix("s3://"))
    put(place, f"{FOLDER}/{uuid.uuid4().hex}.json", f"{FOLDER}/notes.txt")
    remove_leftovers(place)
    assert names(place.url) == [f"{FOLDER}/notes.txt"]


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
