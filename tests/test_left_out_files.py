"""Files that are left out of a source: suffixes, globs that name files, colliding names, and messages."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError

from flows.__main__ import main
from tasks.core.errors import InputError, SourceError
from tasks.core.model import LeftOut, Partition
from tasks.core.options import RunOptions
from tasks.core.planning import orphans
from tasks.core.planning.partition_status import inspect_source
from tasks.core.storage.discovery import check_distinct, discover
from tasks.core.storage.left_out_files import describe_left_out
from tasks.core.storage.location import locate
from tasks.core.storage.partition_names import is_hidden
from tests.conftest import Serve
from tests.core_runs import job_of, names, run, write

HIVE = ["day=1/000000_0", "day=1/000001_0", "day=2/000000_0_copy_1"]
NAMES = ["a.parquet", "b.parq", "c.PARQUET", "day=1/d.parquet", *HIVE, "notes.txt"]


@pytest.fixture(params=["local", "s3"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    folder = str(tmp_path) if request.param == "local" else request.getfixturevalue("bucket")
    fill(f"{folder}/in", NAMES)
    return f"{folder}/in"


def fill(folder: str, keys: Sequence[str]) -> None:
    place = locate(folder)
    for key in keys:
        place.fs.makedirs(place.path(key).rpartition("/")[0], exist_ok=True)
        place.fs.pipe_file(place.path(key), b"x")


def found(source: str, *suffixes: str) -> list[str]:
    run = RunOptions(suffix=suffixes) if suffixes else RunOptions()
    return [partition.key for partition in discover(source, run).partitions]


@pytest.mark.parametrize(
    ("suffixes", "keys"),
    [
        ((), ["a.parquet", "day=1/d.parquet"]),
        ((".parq",), ["b.parq"]),
        ((".parq,.PARQUET",), ["b.parq", "c.PARQUET"]),
        ((".parq", ".parquet"), ["a.parquet", "b.parq", "day=1/d.parquet"]),
        (("none",), HIVE),
        (("",), HIVE),
        (("_0",), HIVE[:2]),
        ((".PARQUET, none",), ["c.PARQUET", *HIVE]),
    ],
)
def test_a_folder_s_partitions_are_the_files_with_the_selected_suffixes(
    source: str, suffixes: tuple[str, ...], keys: list[str]
) -> None:
    assert found(source, *suffixes) == found(f"{source}/**", *suffixes) == keys


@pytest.mark.parametrize(
    ("glob", "keys"),
    [
        ("*.parq", ["b.parq"]),
        ("*.PARQUET", ["c.PARQUET"]),
        ("**/00000*", HIVE),
        ("day=1/*_0", ["000000_0", "000001_0"]),
        ("day=*/0*", HIVE),
        ("?.p*", ["a.parquet", "b.parq"]),
    ],
)
def test_a_glob_that_names_files_selects_any_suffix(source: str, glob: str, keys: list[str]) -> None:
    # Keys are relative to the folder before the first wildcard.
    assert found(f"{source}/{glob}") == keys


@pytest.mark.parametrize("glob", ["*", "**", "day=*/*", "day=*/**"])
def test_a_glob_that_names_only_folders_selects_the_default_suffix(source: str, glob: str) -> None:
    assert all(key.endswith(".parquet") for key in found(f"{source}/{glob}"))


@pytest.mark.parametrize("name", ["b.parq", "c.PARQUET", "day=1/000000_0", "notes.txt"])
def test_one_file_as_source_may_have_any_suffix(source: str, name: str) -> None:
    assert found(f"{source}/{name}") == [name.rpartition("/")[2]]


def test_a_glob_below_a_file_finds_nothing(source: str) -> None:
    with pytest.raises(SourceError, match="has no files that match it"):
        discover(f"{source}/notes.txt/x*")


@pytest.mark.parametrize("wrong", [("*.parq",), ("data/x",), ()])
def test_a_suffix_that_no_name_can_have_is_rejected(wrong: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError):
        RunOptions(suffix=wrong)


def test_each_reason_has_its_count_and_up_to_three_examples_of_different_kinds(source: str) -> None:
    fill(source, ["_SUCCESS", ".x/y.parquet", "zzz.parq"])
    left_out = discover(source).left_out
    assert (left_out.hidden, left_out.other_files, left_out.maybe_parquet) == (2, 1, 6)
    assert left_out.examples["hidden"] == (".x/y.parquet", "_SUCCESS")
    assert left_out.examples["maybe_parquet"] == ("b.parq", "c.PARQUET", "day=1/000000_0")
    assert describe_left_out(left_out) == (
        "2 hidden names (.x/y.parquet, _SUCCESS), 1 other files (notes.txt), 6 files that may be Parquet "
        "under another suffix (b.parq, c.PARQUET, day=1/000000_0, ...; to include them, add .parq, .PARQUET, "
        "none to --suffix)"
    )
    assert discover(f"{source}/day=1/*.parquet").left_out == LeftOut(
        unmatched=2, examples={"unmatched": ("000000_0", "000001_0")}
    )


def test_the_description_of_left_out_files_is_one_line_and_nothing_without_any() -> None:
    assert describe_left_out(LeftOut()) == "nothing"
    shown = describe_left_out(LeftOut(other_files=1, examples={"other_files": ("a\n\x1b.txt",)}))
    assert shown == r"1 other files (a\n\x1b.txt)"


def test_when_only_other_suffixes_are_found_the_error_shows_how_to_include_them(tmp_path: Path) -> None:
    fill(f"{tmp_path}/in", HIVE)
    with pytest.raises(SourceError, match=r"3 files that may be Parquet .*add none to --suffix"):
        discover(f"{tmp_path}/in")


@pytest.mark.parametrize(
    ("key", "hidden"),
    [
        ("_year=2024/a.parquet", False),
        ("a/_year=2024/_month=1/a.parquet", False),
        ("_year=/a.parquet", False),
        ("_year/a.parquet", True),
        ("_year=2024/_a.parquet", True),
        ("_year=2024.parquet", True),
        (".hidden=1/a.parquet", True),
        ("_ledger/_year=1/a.parquet", True),
    ],
)
def test_a_partition_column_s_folder_may_start_with_an_underscore(key: str, *, hidden: bool) -> None:
    assert is_hidden(key) is hidden


def test_a_partition_in_such_a_folder_is_summarized_skipped_and_pruned_like_any_other(
    endpoint: Serve, tmp_path: Path
) -> None:
    server, here = endpoint(), (f"{tmp_path}/in", f"{tmp_path}/out")
    for key in ("_year=1/a.parquet", "_year=2/a.parquet", "_year=3/a.parquet"):
        write(here[0], [f"This is {key}. And more."], key)
    assert len(run(*here)) == 3
    assert run(*here) == []
    Path(here[0], "_year=2/a.parquet").unlink()
    keys = inspect_source(job_of(*here)).orphans
    assert keys == ("_year=2/a.parquet",)
    assert orphans.remove(keys, job_of(*here), RunOptions()) == keys
    assert names(here[1]) == ["_year=1/a.parquet", "_year=3/a.parquet"]
    assert server.stats().requests == 3


def test_outputs_are_named_skipped_and_pruned_by_the_selected_suffixes(
    endpoint: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server, here = endpoint(), (f"{tmp_path}/in", f"{tmp_path}/out")
    keys = ["000000_0", "000001_0", "a.parq", "b.parq", "c.parquet"]
    for key in keys:
        write(here[0], [f"This is {key}. And more."], key)
    asked = ["run", *here, "--text-column", "body", "--no-prefect", "--suffix", "none,.parq"]
    assert main(asked) == 0
    assert "left out 1 files that may be Parquet" in " ".join(
        capsys.readouterr().out.replace("\u2502", "").split()
    )
    assert sorted(names(here[1])) == [*keys[:2], "_ledger/lease-000001.json", *keys[2:-1]]
    for key in ("000001_0", "b.parq"):
        Path(here[0], key).unlink()
    # Without these suffixes the outputs are not partitions, and stay.
    assert main([*asked[:-2], "--prune"]) == 0
    assert {*keys} <= {*names(here[1])}
    assert main([*asked, "--prune"]) == 0
    assert [name for name in names(here[1]) if "lease" not in name] == ["000000_0", "a.parq", "c.parquet"]
    assert server.stats().requests == len(keys)


def test_the_plan_shows_left_out_files_and_how_to_include_them(
    endpoint: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint()
    for key in ("a.parquet", "b.parq", "_SUCCESS"):
        write(f"{tmp_path}/in", ["Some text. And more."], key)
    asked = ["plan", f"{tmp_path}/in", f"{tmp_path}/out", "--text-column", "body"]
    assert main(asked) == 0
    shown = " ".join(capsys.readouterr().out.replace("\u2502", "").split())
    assert "1 hidden names (_SUCCESS)" in shown
    assert "under another suffix (b.parq; to include them, add .parq to --suffix)" in shown
    assert main([*asked, "--json"]) == 0
    left_out = json.loads(capsys.readouterr().out)["left_out"]
    assert (left_out["hidden"], left_out["maybe_parquet"]) == (1, 1)
    assert left_out["examples"] == {"hidden": ["_SUCCESS"], "maybe_parquet": ["b.parq"]}
    assert main([*asked, "--suffix", ".parq", "--suffix", ".parquet"]) == 0
    assert "2 of 2 partitions would run" in capsys.readouterr().out


def test_two_objects_whose_keys_differ_by_an_empty_part_are_rejected_before_a_request(
    endpoint: Serve, tmp_path: Path
) -> None:
    server, source = endpoint(), f"memory://{tmp_path.name}/in"
    place = locate(source)
    for path in ("/x.parquet", "//x.parquet"):
        place.fs.pipe_file(f"{place.root}{path}", b"x")
    assert [partition.key for partition in discover(source).partitions] == ["x.parquet", "x.parquet"]
    assert main(["run", source, f"{tmp_path}/out", "--text-column", "body", "--no-prefect"]) == 2
    assert server.stats().requests == 0


def partitions(*keys: str) -> list[Partition]:
    return [Partition(key, f"lake/{number}/{key}", 1, "v") for number, key in enumerate(keys)]


@pytest.mark.parametrize(
    ("destination", "keys"),
    [
        ("s3://lake/out", ("x.parquet", "x.parquet")),
        ("s3://lake/out", ("a//x.parquet", "a/x.parquet")),
        ("out", ("x.parquet", "x.parquet")),
        ("out", ("a//x.parquet", "a/x.parquet")),
        ("out", ("a", "a/b/x")),
    ],
)
def test_two_keys_with_the_same_output_are_rejected(destination: str, keys: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=r"cannot both have an output in .*nothing was spent"):
        check_distinct(partitions(*keys, "y.parquet"), locate(destination))


def test_keys_that_differ_in_an_object_store_are_not_rejected() -> None:
    check_distinct(partitions("a", "a/b"), locate("s3://lake/out"))
    check_distinct(partitions("a/b", "a-c/d", "ab"), locate("out"))
