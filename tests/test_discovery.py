"""Discovery: which files are partitions, their order, and the counts of other files."""

from pathlib import Path

import pytest

from tasks.core.errors import InputError, SourceError
from tasks.core.options import RunOptions
from tasks.core.storage.discovery import check_apart, discover, source_location
from tasks.core.storage.location import locate

KEYS = [
    "_year=2024/_month=/a.parquet",
    "a.parquet",
    "a-1.parquet",
    "a/1.parquet",
    "brackets[x]/b[0].parquet",
    "data.parquet/part-0.parquet",
    "year=2024/month=01/c d%20#.parquet",
    "ünï/日本.parquet",
]
HIDDEN = [
    "_x.parquet",
    ".x.parquet",
    "_old/_delta_log2/1.parquet",
    "a/_SUCCESS",
    "a/.part.parquet.crc",
    "_a/b/c.parquet",
    ".hidden=1/c.parquet",
    "_year=2024/_part.parquet",
    "_a/_year=2024/c.parquet",
]
# A table in a hidden folder; none of its files is a partition.
TABLE = ["_old/_delta_log/0.json"]
OTHER = ["part.parquet.crc", "a.parquet.tmp", "a/readme.txt", "A.PARQUET2", "only/x.txt"]
MAYBE_PARQUET = ["b.parq", "c.PARQUET", "a/000000_0", "noname"]


@pytest.fixture(params=["local", "s3", "memory"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a folder with partitions, hidden names and other files."""
    roots = {"local": str(tmp_path / "in"), "memory": f"memory://{tmp_path.name}-{id(tmp_path)}/in"}
    url = roots.get(request.param) or f"{request.getfixturevalue('bucket')}/in"
    place = locate(url)
    for key in [*KEYS, *HIDDEN, *TABLE, *OTHER, *MAYBE_PARQUET]:
        if place.is_local:
            Path(place.path(key)).parent.mkdir(parents=True, exist_ok=True)
        place.fs.pipe_file(place.path(key), b"" if key == "a.parquet" else b"x")
    return url


def found(source: str) -> list[str]:
    return [partition.key for partition in discover(source).partitions]


@pytest.mark.parametrize("end", ["", "/"])
def test_a_prefix_lists_its_partitions_by_key_and_counts_other_files(source: str, end: str) -> None:
    discovery = discover(source + end)
    assert [partition.key for partition in discovery.partitions] == sorted(KEYS)
    left_out = discovery.left_out
    assert (left_out.hidden, left_out.table_metadata) == (len(HIDDEN), len(TABLE))
    assert (left_out.other_files, left_out.maybe_parquet) == (len(OTHER), len(MAYBE_PARQUET))
    assert left_out.unmatched == 0
    place = source_location(source + end)
    assert [partition.path for partition in discovery.partitions] == [place.path(key) for key in sorted(KEYS)]
    assert all(partition.version for partition in discovery.partitions)


def test_an_empty_file_is_listed_as_a_partition(source: str) -> None:
    (empty,) = [partition for partition in discover(source).partitions if partition.key == "a.parquet"]
    assert empty.size_bytes == 0


@pytest.mark.parametrize("key", KEYS)
def test_one_file_is_a_source_with_its_own_name_as_key(source: str, key: str) -> None:
    (partition,) = discover(f"{source}/{key}").partitions
    assert partition.key == key.rpartition("/")[2]
    assert partition.path == locate(f"{source}/{key}").root


@pytest.mark.parametrize(
    ("pattern", "keys"),
    [
        ("*.parquet", ["a-1.parquet", "a.parquet"]),
        ("a*.parquet", ["a-1.parquet", "a.parquet"]),
        ("a?1.parquet", ["a-1.parquet"]),
        ("**", sorted(KEYS)),
        ("**/*.parquet", sorted(KEYS)),
        ("year=*/**/*.parquet", ["year=2024/month=01/c d%20#.parquet"]),
        (
            "*/*.parquet",
            ["a/1.parquet", "brackets[x]/b[0].parquet", "data.parquet/part-0.parquet", "ünï/日本.parquet"],
        ),
        ("brackets[x]/*[0].parquet", ["b[0].parquet"]),
        ("b*[x]/b[0].parquet", ["brackets[x]/b[0].parquet"]),
    ],
)
def test_a_glob_matches_whole_keys_and_brackets_are_ordinary_characters(
    source: str, pattern: str, keys: list[str]
) -> None:
    assert found(f"{source}/{pattern}") == keys


def test_a_prefix_with_brackets_in_its_name_is_a_prefix(source: str) -> None:
    assert found(f"{source}/brackets[x]") == ["b[0].parquet"]


def test_a_folder_named_like_a_partition_is_a_folder(source: str) -> None:
    assert found(f"{source}/data.parquet") == ["part-0.parquet"]


def test_the_error_for_no_partitions_names_the_source_and_the_pattern(source: str) -> None:
    for nothing in (f"{source}/missing", f"{source}/*.csv"):
        with pytest.raises(
            SourceError, match=r"No partition found: .* has no files (named \*\.parquet|that match it)"
        ) as error:
            discover(nothing)
        assert nothing in str(error.value)
    with pytest.raises(
        SourceError, match=r"files named \*\.csv or without a dot .* 1 other files \(x\.txt\)"
    ):
        discover(f"{source}/only", RunOptions(suffix=(".csv", "none")))


def test_an_empty_bucket_and_a_missing_bucket_have_different_errors(bucket: str) -> None:
    for url in (bucket, f"{bucket}/"):
        with pytest.raises(SourceError, match="No partition found"):
            discover(url)
    with pytest.raises(InputError, match="bucket no-such-bucket-anywhere does not exist"):
        discover("s3://no-such-bucket-anywhere/in")


def test_partitions_at_the_root_of_a_bucket_are_found(bucket: str) -> None:
    locate(bucket).fs.pipe_file(f"{bucket.removeprefix('s3://')}/a.parquet", b"x")
    assert found(bucket) == found(f"{bucket}/") == found(f"{bucket}/*") == ["a.parquet"]


@pytest.mark.parametrize("source", ["s3://*/x", "s3://b?/x", "memory://*"])
def test_a_wildcard_in_the_bucket_is_an_input_error(source: str) -> None:
    with pytest.raises(InputError, match="wildcard in its bucket"):
        source_location(source)


def test_relative_and_home_paths_are_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.parquet").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert found("in") == found("in/*.parquet") == found("~/in") == found("./in/") == ["a.parquet"]
    assert found("**") == ["in/a.parquet"]
    monkeypatch.chdir(tmp_path / "in")
    assert found("*.parquet") == found(".") == found("../in") == ["a.parquet"]


@pytest.mark.parametrize(
    ("source", "destination", "apart"),
    [
        ("s3://b/data", "s3://b/data2", True),
        ("s3://b/data2", "s3://b/data", True),
        ("s3://b/data", "s3://other/data", True),
        ("s3://b/data", "memory://b/data", True),
        ("s3://b/data/*.parquet", "s3://b/out", True),
        ("s3://b/data/a.parquet", "s3://b/out", True),
        ("s3://b/data", "s3://b/data", False),
        ("s3://b/data", "s3://b/data/", False),
        ("s3a://b/data", "s3://b/data", False),
        ("s3://b/data", "s3://b/data/out", False),
        ("s3://b/data/in", "s3://b/data", False),
        ("s3://b", "s3://b/out", False),
        ("s3://b/data/*.parquet", "s3://b/data", False),
        ("s3://b/data/a.parquet", "s3://b/data", False),
        ("/", "/out", False),
        ("in", "./in/out", False),
        ("in", "link", False),
        ("in", "link/out", False),
        ("in", "other", True),
    ],
)
def test_source_and_destination_must_not_contain_each_other(
    source: str, destination: str, *, apart: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to("in")
    places = source_location(source), locate(destination)
    if apart:
        check_apart(*places)
        return
    with pytest.raises(InputError, match="choose a destination beside the source"):
        check_apart(*places)


def test_the_error_for_a_missing_scheme_shows_the_url_to_write(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=r"For a bucket, write s3://lake/articles\."):
        discover("lake/articles")
    with pytest.raises(InputError, match=r"lake/out is a local folder.*: write s3://lake/out, or"):
        check_apart(locate(f"{bucket}/in"), locate("lake/out"))
    check_apart(locate(f"{bucket}/in"), locate(str(tmp_path)))
