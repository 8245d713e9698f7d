"""Every problem in one message, before a cent is spent, and from footers alone."""

import time
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from tasks.core.errors import InputError, PreflightError, StorageError
from tasks.core.model import Discovery, LeftOut, Partition, Plan
from tasks.core.planning.preflight import preflight
from tasks.core.storage.discovery import discover
from tasks.core.storage.location import Location, locate
from tests.enriched_files import job_of

TEXT = "string, large_string, string_view or dictionary of one of them"
TAKEN = "exists already: choose another column prefix"
GOOD = pa.table({"id": [1, 2], "text": ["a", None]})


class Folder:
    """A source folder and its preflight."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, key: str, table: pa.Table = GOOD, **how: object) -> Path:
        path = self.path / "in" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, **how)
        return path

    def raw(self, key: str, data: bytes) -> None:
        self.write(key).write_bytes(data)

    def check(self, prefix: str = "summary") -> Plan:
        source = str(self.path / "in")
        return preflight(discover(source), job_of(source, str(self.path / "out"), prefix))

    def problems(self, prefix: str = "summary") -> list[str]:
        with pytest.raises(PreflightError) as error:
            self.check(prefix)
        return [line.removeprefix("  - ") for line in str(error.value).split("\n")[1:]]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_plan_counts_the_rows_of_all_partitions_and_leaves_no_trace(folder: Folder) -> None:
    folder.write("a.parquet")
    folder.write("b.parquet", GOOD.slice(0, 0))
    plan = folder.check()
    assert (plan.rows, [partition.key for partition in plan.partitions]) == (2, ["a.parquet", "b.parquet"])
    assert not list((folder.path / "out").iterdir())


def test_one_message_lists_every_problem_and_the_number_of_partitions_without_one(folder: Folder) -> None:
    folder.write("good.parquet")
    folder.write("good2.parquet")
    folder.write("number.parquet", pa.table({"text": [1], "SUMMARY": [1], "summary_Status": [1]}))
    folder.write("missing.parquet", pa.table({"a": [1], "b": [1]}))
    folder.raw("zero.parquet", b"")
    folder.raw("letter.parquet", b"To whom it may concern")
    with pytest.raises(PreflightError) as error:
        folder.check()
    head, *problems = str(error.value).split("\n")
    assert head == (
        "4 of 6 partitions that need work cannot be summarized, nothing was spent. "
        "The other 2 have no problem (4 rows)."
    )
    assert problems == [
        "  - letter.parquet: the file is truncated or is not Parquet (its last bytes are not PAR1)",
        "  - missing.parquet: column 'text' is missing (it has a, b)",
        f"  - number.parquet: column 'text' is int64, not {TEXT}",
        "  - number.parquet: column 'SUMMARY' exists already: choose another column prefix",
        "  - number.parquet: column 'summary_Status' exists already: choose another column prefix",
        "  - zero.parquet: the file is empty",
    ]


@pytest.mark.parametrize(
    "kind", [pa.int64(), pa.bool_(), pa.timestamp("us"), pa.list_(pa.string()), pa.binary()], ids=str
)
def test_a_column_that_is_not_text_is_not_cast(folder: Folder, kind: pa.DataType) -> None:
    folder.write("a.parquet", pa.table({"text": pa.nulls(1, kind)}))
    (problem,) = folder.problems()
    assert problem.startswith(
        f"a.parquet: column 'text' is {str(kind).replace('item', 'element')}, not string"
    )


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())],
    ids=str,
)
def test_every_text_type_is_in_order(folder: Folder, kind: pa.DataType) -> None:
    folder.write("a.parquet", pa.table({"text": pa.array(["x"]).cast(kind)}))
    assert folder.check().rows == 1


def test_damaged_files_are_named_with_their_problem(folder: Folder) -> None:
    data = folder.write("a.parquet").read_bytes()
    footer = int.from_bytes(data[-8:-4], "little")
    folder.write("a.parquet")
    folder.raw("b-torn.parquet", data[:-20])
    folder.raw("c-encrypted.parquet", data[:-4] + b"PARE")
    folder.raw("d-corrupt.parquet", data[: -footer - 8] + b"\xff" * footer + data[-8:])
    folder.raw("e-headless.parquet", data[-8:])
    folder.raw("f-huge-footer.parquet", data[:-8] + (2**31 - 1).to_bytes(4, "little") + b"PAR1")
    folder.raw("g-short.parquet", b"PAR1")
    said = dict(problem.split(": ", 1) for problem in folder.problems())
    assert "truncated" in said["b-torn.parquet"]
    assert said["c-encrypted.parquet"] == "the file is encrypted"
    assert "corrupt" in said["d-corrupt.parquet"]
    assert "truncated" in said["e-headless.parquet"]
    assert "truncated" in said["f-huge-footer.parquet"]
    assert "truncated" in said["g-short.parquet"]
    assert "a.parquet" not in said


def test_only_a_text_column_that_exists_twice_is_refused(folder: Folder) -> None:
    names = ["text", "a", "a", "text", "a"]
    folder.write("a.parquet", pa.Table.from_arrays([pa.array(["x"])] * 5, names=names))
    folder.write("b.parquet", pa.Table.from_arrays([pa.array(["x"])] * 3, names=["text", "a", "a"]))
    assert folder.problems() == ["a.parquet: column 'text' exists 2 times"]


def test_a_hive_folder_is_a_column_too(folder: Folder) -> None:
    folder.write("Summary=x/a.parquet")
    folder.write("year=2024/summary_model=m/b.parquet")
    assert folder.problems() == [
        "Summary=x/a.parquet: column 'Summary' exists already: choose another column prefix",
        f"year=2024/summary_model=m/b.parquet: column 'summary_model' {TAKEN}",
    ]
    assert folder.check("digest").rows == 4


def test_a_long_list_of_problems_is_cut_with_the_rest_counted(folder: Folder) -> None:
    for number in range(210):
        folder.raw(f"{number:03}.parquet", b"")
    problems = folder.problems()
    assert len(problems) == 201
    assert problems[-1] == "... and 10 more"


def wide(columns: int = 3000) -> pa.Table:
    return pa.table({"text": ["x"], **{f"a rather long column name {n}": [n] for n in range(columns)}})


def upload(folder: Path, bucket: str) -> str:
    place = locate(f"{bucket}/in")
    for path in sorted(folder.rglob("*.parquet")):
        place.fs.pipe_file(place.path(str(path.relative_to(folder))), path.read_bytes())
    return place.url


def test_a_footer_longer_than_the_first_read_is_read_whole_on_s3(folder: Folder, bucket: str) -> None:
    path = folder.write("wide.parquet", wide())
    assert int.from_bytes(path.read_bytes()[-8:-4], "little") > 200_000
    source = upload(folder.path / "in", bucket)
    assert preflight(discover(source), job_of(source, f"{bucket}/out")).rows == 1


def test_300_partitions_on_s3_are_checked_in_seconds_and_each_bad_one_is_named(
    folder: Folder, bucket: str
) -> None:
    data = folder.write("x.parquet").read_bytes()
    place = locate(f"{bucket}/in")
    place.fs.pipe({place.path(f"y={n % 7}/{n:03}.parquet"): data if n % 100 else b"" for n in range(300)})
    began_s = time.monotonic()
    with pytest.raises(PreflightError, match=r"3 of 300 .* other 297 have no problem \(594 rows\)"):
        preflight(discover(place.url), job_of(place.url, f"{bucket}/out"))
    assert time.monotonic() - began_s < 10


def test_a_partition_removed_since_it_was_listed_may_pass_and_one_that_is_bad_may_not(folder: Folder) -> None:
    folder.write("a.parquet")
    source = str(folder.path / "in")
    gone = Partition(key="gone.parquet", path=f"{source}/gone.parquet", size_bytes=100, version="")
    found = discover(source)
    listed = Discovery((*found.partitions, gone), LeftOut())
    with pytest.raises(StorageError, match=r"gone\.parquet.* does not exist"):
        preflight(listed, job_of(source, str(folder.path / "out")))
    folder.raw("a.parquet", b"")
    listed = Discovery((*discover(source).partitions, gone), LeftOut())
    with pytest.raises(PreflightError, match=r"(?s)a\.parquet: the file is empty.*gone\.parquet"):
        preflight(listed, job_of(source, str(folder.path / "out")))


def test_an_unwritable_destination_is_reported_before_a_footer_is_read(folder: Folder) -> None:
    folder.raw("a.parquet", b"")
    source = str(folder.path / "in")
    with pytest.raises(InputError, match="cannot be written"):
        preflight(discover(source), job_of(source, "/proc/nowhere"))


class CountingFileSystem(LocalFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """A disk that counts the bytes read from it, and what is opened in another way."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes_read = self.reads = self.opened = 0

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **how: object) -> bytes:
        data: bytes = super().cat_file(path, start, end, **how)
        self.bytes_read += len(data)
        self.reads += 1
        return data

    def open(self, path: str, mode: str = "rb", **how: object) -> BinaryIO:
        self.opened += 1
        return cast("BinaryIO", super().open(path, mode, **how))


def test_nothing_but_footers_is_read(folder: Folder) -> None:
    words = pa.array([f"{n}" * 40 for n in range(200_000)])
    big = folder.write("big.parquet", pa.table({"text": words}), compression="none", use_dictionary=False)
    assert big.stat().st_size > 30_000_000
    disk = CountingFileSystem()
    source = Location("the disk", str(folder.path / "in"), disk)
    asked = replace(job_of("x", str(folder.path / "out")), source=source)
    assert preflight(discover(str(folder.path / "in")), asked).rows == 200_000
    assert disk.opened == disk.reads == 1
    assert 0 < disk.bytes_read <= 64 * 1024
