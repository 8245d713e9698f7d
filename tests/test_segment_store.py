"""A partition's folder of segments: merging, damage, and what is left when it is removed."""

from pathlib import Path

import pytest

from tasks.core.errors import StorageError
from tasks.core.ledger import segment_format
from tasks.core.ledger.segment_names import folder_of
from tasks.core.ledger.segment_store import SegmentStore, sweep
from tasks.core.model import Outcome, Status
from tasks.core.storage import stored_files
from tasks.core.storage.location import Location, locate
from tests.test_segment_format import entries, key

KEY = "day=1/secret customer.parquet"


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    if request.param == "local":
        return locate(str(tmp_path / "out [x]"))
    return locate(f"{request.getfixturevalue('bucket')}/out [x]")


def names(place: Location) -> list[str]:
    return [file.path.removeprefix(place.path("")) for file in stored_files.list_files(place, place.root)]


def keys_in(place: Location) -> set[bytes]:
    return {key for table in SegmentStore(place, KEY).read() for key in table["key"].to_pylist()}


def test_what_one_wrote_another_reads_and_the_names_tell_nothing(place: Location) -> None:
    assert SegmentStore(place, KEY).read() == []
    SegmentStore(place, KEY).add(segment_format.table_of(entries(3)))
    (table,) = SegmentStore(place, KEY).read()
    assert table["text"].to_pylist() == ["summary 0", "summary 1", "summary 2"]
    (name,) = names(place)
    assert name.startswith(f"_ledger/{folder_of(KEY).removeprefix('_ledger/')}/0-")
    assert not any(word in name for word in ("day", "secret", "customer"))
    assert SegmentStore(place, "another").read() == []


def test_storing_the_same_again_is_no_error_and_no_second_segment(place: Location) -> None:
    # As after a write that was done and whose reply was lost.
    for _ in range(2):
        SegmentStore(place, KEY).add(segment_format.table_of(entries(3)))
    assert len(names(place)) == 1


def test_a_thousand_commits_leave_dozens_of_objects_and_every_key(tmp_path: Path) -> None:
    place = locate(str(tmp_path))
    segments, most = SegmentStore(place, KEY), 0
    for number in range(1000):
        segments.add(segment_format.table_of({key(number): Outcome(Status.OK, f"{number}")}))
        if segments.merge_due:
            segments.merge()
        most = max(most, len(list(tmp_path.rglob("*.segment"))))
    assert most <= 40
    assert keys_in(place) == {key(number) for number in range(1000)}


def test_large_segments_are_left_as_they_are() -> None:
    # On a disk, most of the time would go into making 5,000 files durable.
    place = locate("memory://large-segments")
    segments, segments_a_merge = SegmentStore(place, KEY), 17
    for number in range(segments_a_merge**3):
        segments.add(segment_format.table_of({key(number): Outcome(Status.OK, f"{number}")}))
        if segments.merge_due:
            segments.merge()
    levels = [name.rpartition("/")[2].partition("-")[0] for name in names(place)]
    assert levels == ["2"] * segments_a_merge
    assert len(keys_in(place)) == segments_a_merge**3


def test_merging_on_s3_leaves_one_segment_of_the_next_level(bucket: str) -> None:
    place = locate(f"{bucket}/out")
    segments = SegmentStore(place, KEY)
    for number in range(33):
        segments.add(segment_format.table_of({key(number): Outcome(Status.OK, f"{number}")}))
    segments.merge()
    assert [name.rpartition("/")[2][:2] for name in names(place)] == ["1-"]
    assert keys_in(place) == {key(number) for number in range(33)}


def test_a_segment_that_another_run_merged_meanwhile_is_no_obstacle(place: Location) -> None:
    segments = SegmentStore(place, KEY)
    for number in range(34):
        segments.add(segment_format.table_of({key(number): Outcome(Status.OK, f"{number}")}))
    SegmentStore(place, KEY).remove()
    for number in range(20):
        SegmentStore(place, KEY).add(segment_format.table_of({key(number): Outcome(Status.OK, f"{number}")}))
    segments.merge()
    assert len(names(place)) == 1
    assert keys_in(place) == {key(number) for number in range(20)}


def test_a_kill_between_merging_and_removing_leaves_doubles_that_do_no_harm(place: Location) -> None:
    segments = SegmentStore(place, KEY)
    segments.add(segment_format.table_of(entries(3)))
    segments.add(segment_format.table_of(entries(5)))
    assert keys_in(place) == {key(n) for n in range(5)}


def as_earlier_versions_named_them(place: Location) -> None:
    for name in names(place):
        # Not `mv`, which takes brackets in a name for a pattern.
        place.fs.pipe_file(
            place.path(name.replace(".segment", ".parquet")), place.fs.cat_file(place.path(name))
        )
        place.fs.rm_file(place.path(name))


def test_segments_that_earlier_versions_named_parquet_are_read_merged_and_removed(place: Location) -> None:
    for number in range(10):
        SegmentStore(place, KEY).add(segment_format.table_of({key(number): Outcome(Status.OK, f"{number}")}))
    as_earlier_versions_named_them(place)
    assert keys_in(place) == {key(number) for number in range(10)}
    segments = SegmentStore(place, KEY)
    segments.read()
    for number in range(10, 20):
        segments.add(segment_format.table_of({key(number): Outcome(Status.OK, f"{number}")}))
    segments.merge()
    assert [name.rpartition("/")[2][:2] for name in names(place)] == ["1-"]
    assert keys_in(place) == {key(number) for number in range(20)}
    as_earlier_versions_named_them(place)
    sweep(place, [KEY])
    assert names(place) == []


@pytest.mark.parametrize("cut", [0, 10, None])
def test_a_damaged_segment_counts_as_absent_and_is_named(
    place: Location, cut: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    segments = SegmentStore(place, KEY)
    segments.add(segment_format.table_of(entries(3)))
    (name,) = names(place)
    segments.add(segment_format.table_of({key(9): Outcome(Status.OK, "good")}))
    data = bytearray(place.fs.cat_file(place.path(name)))
    data[40] ^= 1
    place.fs.pipe_file(place.path(name), bytes(data[:cut]))
    assert keys_in(place) == {key(9)}
    assert name in caplog.text


def test_a_store_that_does_not_answer_is_no_absence(place: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    SegmentStore(place, KEY).add(segment_format.table_of(entries(3)))

    def fail(paths: list[str], *_: object, **__: object) -> list[Exception]:
        return [TimeoutError() for _ in paths]

    monkeypatch.setattr(place.fs, "cat_ranges", fail)
    with pytest.raises(StorageError):
        SegmentStore(place, KEY).read()


def test_finished_partitions_leave_no_segments_and_others_keep_theirs(place: Location) -> None:
    for name in (KEY, "another"):
        SegmentStore(place, name).add(segment_format.table_of(entries(3)))
    sweep(place, [KEY, "a third"])
    assert [name.rpartition("/")[0] for name in names(place)] == [folder_of("another")]
    SegmentStore(place, "another").remove()
    assert names(place) == []
