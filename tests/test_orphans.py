"""Orphaned outputs: which are found, and that no other file is ever removed."""

import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.errors import InputError
from tasks.core.ledger import segment_format
from tasks.core.ledger.segment_store import SegmentStore
from tasks.core.options import RunOptions
from tasks.core.planning import orphans
from tasks.core.planning.partition_status import inspect_source
from tasks.core.storage.location import locate
from tasks.local.endpoint_control import Endpoint
from tests.conftest import Serve
from tests.core_runs import job_of, names, run, write
from tests.test_segment_format import entries

KEYS = ("a.parquet", "day=1/b.parquet", "day=2/c [x] é.parquet")


@pytest.fixture(autouse=True)
def server(endpoint: Serve) -> Endpoint:
    return endpoint()


def fill(folders: tuple[str, str], *keys: str) -> None:
    """A summarized dataset."""
    for key in keys:
        write(folders[0], [f"This is {key}. And more."], key)
    run(*folders)


def delete(folder: str, key: str) -> None:
    place = locate(folder)
    place.fs.rm_file(place.path(key))


def found(folders: tuple[str, str], only: str | None = None) -> tuple[str, ...] | None:
    return inspect_source(job_of(*folders), RunOptions(only=only)).orphans


def removed(folders: tuple[str, str], only: str | None = None) -> tuple[str, ...]:
    """What a run with prune removes."""
    job = job_of(*folders)
    options = RunOptions(only=only, prune=True)
    keys = inspect_source(job, options).orphans
    assert keys is not None
    return orphans.remove(keys, job, options)


def test_outputs_of_deleted_partitions_are_found_and_only_they_are_removed(folders: tuple[str, str]) -> None:
    fill(folders, *KEYS)
    assert found(folders) == ()
    delete(folders[0], KEYS[2])
    assert found(folders) == (KEYS[2],)
    assert names(folders[1]) == sorted(KEYS)
    assert removed(folders) == (KEYS[2],)
    assert names(folders[1]) == list(KEYS[:2])
    assert found(folders) == ()


def test_a_name_with_a_pattern_in_it_removes_that_name_alone(folders: tuple[str, str]) -> None:
    fill(folders, "x1.parquet", "x2.parquet", "x[12].parquet", "x*.parquet")
    delete(folders[0], "x*.parquet")
    delete(folders[0], "x[12].parquet")
    assert removed(folders) == ("x*.parquet", "x[12].parquet")
    assert names(folders[1]) == ["x1.parquet", "x2.parquet"]


def test_folders_of_a_disk_that_are_empty_then_go_too(here: tuple[str, str]) -> None:
    fill(here, *KEYS)
    delete(here[0], KEYS[1])
    removed(here)
    assert not Path(here[1], "day=1").exists()
    assert Path(here[1], "day=2").exists()


def test_files_of_other_programs_stay_whatever_their_footers_hold(folders: tuple[str, str]) -> None:
    fill(folders, *KEYS)
    place = locate(folders[1])
    ours = place.fs.cat_file(place.path(KEYS[0]))
    write(folders[1], ["Someone else's."], "others.parquet")
    place.fs.pipe_file(place.path("notes.txt"), b"notes")
    place.fs.pipe_file(place.path("torn.parquet"), ours[:-9])
    # Copies, under another name and where readers do not look.
    place.fs.pipe_file(place.path("copy.parquet"), ours)
    place.fs.makedirs(place.path("_old"), exist_ok=True)
    place.fs.pipe_file(place.path(f"_old/{KEYS[0]}"), ours)
    before = names(folders[1])
    assert found(folders) == removed(folders) == ()
    assert names(folders[1]) == before


@pytest.mark.parametrize("store_schema", [True, False], ids=["arrow's schema", "without"])
def test_an_output_that_another_program_rewrote_is_kept(here: tuple[str, str], *, store_schema: bool) -> None:
    write(here[0], ["This is the other. And more."], "other.parquet")
    source = Path(here[0], "a.parquet")
    with pq.ParquetWriter(
        source, (table := pa.table({"body": ["Text. More."]})).schema, store_schema=store_schema
    ) as writer:
        writer.write_table(table)
    run(*here)
    output = Path(here[1], "a.parquet")
    untouched = output.read_bytes()
    source.unlink()
    # pyarrow carries footer metadata along.
    pq.write_table(pq.read_table(output).append_column("score", pa.array([1])), output)
    assert found(here) == ()
    output.write_bytes(untouched)
    assert found(here) == ("a.parquet",)


def test_another_source_of_the_same_destination_is_none_of_this_runs_business(
    here: tuple[str, str], tmp_path: Path
) -> None:
    other = (f"{tmp_path}/other", here[1])
    fill(here, "a.parquet", "b.parquet")
    fill(other, "c.parquet", "d.parquet")
    fill((f"{here[0]}/day=1", here[1]), "e.parquet")
    delete(other[0], "d.parquet")
    assert found(here) == ()
    assert removed(other) == ("d.parquet",)
    assert names(here[1]) == ["a.parquet", "b.parquet", "c.parquet", "e.parquet"]


def test_the_same_path_on_another_machine_is_another_source(
    here: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(here, "a.parquet", "b.parquet", "c.parquet")
    delete(here[0], "b.parquet")
    assert found(here) == ("b.parquet",)
    monkeypatch.setattr("socket.gethostname", lambda: "another-machine")
    assert found(here) == ()


@pytest.mark.parametrize("pattern", ["/*.parquet", "/**", "/a.parquet"])
def test_with_a_glob_or_one_file_orphans_cannot_be_determined(here: tuple[str, str], pattern: str) -> None:
    fill(here, "a.parquet", "b.parquet")
    delete(here[0], "b.parquet")
    job = job_of(f"{here[0]}{pattern}", here[1])
    assert inspect_source(job).orphans is None
    with pytest.raises(InputError, match="prune needs a whole folder"):
        inspect_source(job, RunOptions(prune=True))


def test_only_limits_the_orphans_too(here: tuple[str, str]) -> None:
    fill(here, *KEYS, "day=1/x.parquet", "day=2/x.parquet")
    delete(here[0], "day=1/x.parquet")
    delete(here[0], "day=2/x.parquet")
    assert removed(here, only="day=2/*") == ("day=2/x.parquet",)
    assert "day=1/x.parquet" in names(here[1])


def test_a_source_that_came_back_meanwhile_keeps_its_output(here: tuple[str, str]) -> None:
    fill(here, "a.parquet", "b.parquet", "c.parquet")
    delete(here[0], "b.parquet")
    keys = inspect_source(job_of(*here)).orphans
    write(here[0], ["Back again. And more."], "b.parquet")
    assert keys == ("b.parquet",)
    assert orphans.remove(keys, job_of(*here), RunOptions()) == ()
    assert names(here[1]) == ["a.parquet", "b.parquet", "c.parquet"]


def test_with_most_or_all_of_the_source_deleted_no_output_is_removed(
    here: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    fill(here, "a.parquet", "b.parquet", "c.parquet")
    delete(here[0], "b.parquet")
    delete(here[0], "c.parquet")
    assert found(here) == ("b.parquet", "c.parquet")
    assert removed(here) == ()
    assert "has only 1 partitions and may be incomplete" in caplog.text
    keys = inspect_source(job_of(*here)).orphans or ()
    delete(here[0], "a.parquet")
    assert orphans.remove(keys, job_of(*here), RunOptions()) == ()
    assert "could not be removed: No partition found" in caplog.text
    assert names(here[1]) == ["a.parquet", "b.parquet", "c.parquet"]


def test_paid_replies_of_partitions_that_were_never_published_stay(
    here: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    fill(here, "a.parquet", "b.parquet")
    segments = SegmentStore(locate(here[1]), "unpublished.parquet")
    segments.add(segment_format.table_of(entries()))
    delete(here[0], "b.parquet")
    with caplog.at_level(logging.INFO):
        assert removed(here) == ("b.parquet",)
    assert "Partition b.parquet: orphaned output removed, its source partition was deleted" in caplog.text
    assert len(segments.read()) == 1
