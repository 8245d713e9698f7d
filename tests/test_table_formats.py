"""Sources that are Delta, Iceberg or Hudi tables are detected and rejected, and can be exported.

The tables are made by deltalake and pyiceberg; each holds dead files beside its live rows.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from pyiceberg.catalog.sql import SqlCatalog
from s3fs import S3FileSystem

from flows.__main__ import main
from flows.summarize import summarize_parquet
from tasks.core.errors import InputError, TableFolderError
from tasks.core.options import RunOptions
from tasks.core.storage.discovery import discover
from tasks.core.storage.location import locate
from tasks.local.endpoint_control import Endpoint
from tests.core_runs import write
from tests.faulty_s3_proxy import faulty_proxy
from tests.s3server import S3Server
from tests.test_stored_files import without_privileges

Make = Callable[[str], None]


def rows(first: int, last: int) -> pa.Table:
    return pa.table(
        {"id": range(first, last), "body": [f"This is row {n}. And more." for n in range(first, last)]}
    )


def delta(url: str) -> None:
    store = {"allow_http": "true"}
    write_deltalake(url, rows(0, 10), storage_options=store)
    write_deltalake(url, rows(10, 15), mode="overwrite", storage_options=store)


def iceberg(url: str) -> None:
    store = {"s3.endpoint": os.environ.get("AWS_ENDPOINT_URL", ""), "s3.region": "us-east-1"}
    catalog = SqlCatalog("tests", uri="sqlite:///:memory:", warehouse="", **store)
    catalog.create_namespace("n")
    location = locate(url).fs.unstrip_protocol(url)
    table = catalog.create_table("n.t", schema=rows(0, 1).schema, location=location)
    table.append(rows(0, 10))
    table.overwrite(rows(10, 15))
    catalog.close()


def hudi(url: str) -> None:
    """Write the folders of a Hudi table by hand, since no package on PyPI writes one."""
    for number in range(2):
        write(url, [f"This is row {n}. And more." for n in range(10)], f"f-0_0-0-0_{number}.parquet")
    place = locate(url)
    place.fs.makedirs(place.path(".hoodie"), exist_ok=True)
    place.fs.pipe_file(place.path(".hoodie/hoodie.properties"), b"hoodie.table.name=t")


TABLES: dict[str, Make] = {"Delta": delta, "Iceberg": iceberg, "Hudi": hudi}


@pytest.fixture(params=["local", "s3"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else request.getfixturevalue("bucket")


@pytest.mark.parametrize("command", [["plan"], ["plan", "--json"], ["run", "--no-prefect"]])
@pytest.mark.parametrize("kind", TABLES)
def test_a_table_as_source_ends_plan_and_run_with_2_before_a_request_and_names_it(
    lake: str, server: Endpoint, kind: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    TABLES[kind](f"{lake}/t")
    arguments = [f"{lake}/t", f"{lake}/out", "--text-column", "body"]
    assert main([command[0], *arguments, *command[1:]]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"{lake}/t is a {kind} table. Some files of a table may be dead")
    assert "--allow-table-folder" in message
    assert server.stats().requests == 0


def test_in_prefect_the_run_of_a_table_fails_before_a_request(tmp_path: Path, server: Endpoint) -> None:
    delta(f"{tmp_path}/t")
    with pytest.raises(TableFolderError, match="is a Delta table"):
        summarize_parquet(f"{tmp_path}/t", f"{tmp_path}/out", "body")
    with pytest.raises(TableFolderError, match="is a Delta table"):
        summarize_parquet(f"{tmp_path}/t", f"{tmp_path}/out", "body", run=RunOptions(dry_run=True))
    assert server.stats().requests == 0


@pytest.mark.parametrize("kind", ["Delta", "Iceberg"])
def test_the_two_lines_in_the_error_export_only_live_rows_and_these_are_summarized(
    lake: str, server: Endpoint, kind: str
) -> None:
    TABLES[kind](f"{lake}/t")
    with pytest.raises(TableFolderError) as refused:
        discover(f"{lake}/t")
    lines = [line.strip() for line in str(refused.value).splitlines() if line.startswith("    ")]
    assert len(lines) == 2
    exported = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False
    )
    assert exported.returncode == 0, exported.stderr
    assert main(["run", f"{lake}/t-snapshot", f"{lake}/out", "--text-column", "body", "--no-prefect"]) == 0
    place = locate(f"{lake}/out")
    summarized = pa.concat_tables(
        pq.read_table(partition.path, filesystem=place.fs) for partition in discover(f"{lake}/out").partitions
    )
    assert sorted(summarized["id"].to_pylist()) == list(range(10, 15))
    assert set(summarized["summary"].to_pylist()) == {f"This is row {n}." for n in range(10, 15)}
    assert server.stats().requests == 5


def test_a_hudi_table_is_exported_by_its_own_library_or_by_spark(tmp_path: Path) -> None:
    hudi(f"{tmp_path}/t")
    with pytest.raises(
        TableFolderError, match=r"with hudi 0\.5 or later \(or in Spark with Hudi's bundle"
    ) as refused:
        discover(f"{tmp_path}/t")
    [imports, export] = [line.strip() for line in str(refused.value).splitlines() if line.startswith("    ")]
    assert imports == "import hudi, pyarrow.dataset"
    assert f"from_base_uri('{tmp_path}/t').build().read(), '{tmp_path}/t-snapshot'" in export


@pytest.mark.parametrize("source", ["", "**", "t", "t/*", "t/day=*/*.parquet", "t/day=1", "t/day=1/deep/er"])
@pytest.mark.parametrize("marker", ["_delta_log/0.json", "metadata/v1.metadata.json", ".hoodie/x"])
def test_a_table_at_above_or_below_the_source_folder_is_found(lake: str, source: str, marker: str) -> None:
    for folder in ("t", "t/day=1", "t/day=1/deep/er"):
        write(f"{lake}/lake/{folder}", ["Text."])
    place = locate(f"{lake}/lake/t")
    place.fs.makedirs(place.path(marker).rpartition("/")[0], exist_ok=True)
    place.fs.pipe_file(place.path(marker), b"{}")
    with pytest.raises(TableFolderError, match=f"{lake}/lake/t is a (Delta|Iceberg|Hudi) table"):
        discover(f"{lake}/lake/{source}")
    assert discover(f"{lake}/lake/{source}", RunOptions(allow_table_folder=True)).partitions


@pytest.mark.parametrize(
    "key",
    [
        "_delta_log",
        "x_delta_log/0.json",
        "metadata/notes.json",
        "metadata/deep/v1.metadata.json",
        "v1.metadata.json",
        "_backup/_delta_log/0.json",
    ],
)
def test_names_that_only_resemble_table_metadata_are_allowed(lake: str, key: str) -> None:
    write(f"{lake}/in", ["Text."], "day=1/a.parquet")
    place = locate(f"{lake}/in")
    place.fs.makedirs(place.path(key).rpartition("/")[0], exist_ok=True)
    place.fs.pipe_file(place.path(key), b"{}")
    for source in (f"{lake}/in", f"{lake}/in/day=1", f"{lake}/in/day=1/a.parquet"):
        found = discover(source)
        assert (len(found.partitions), found.tables) == (1, ())


def test_the_error_names_the_newest_metadata_file_of_iceberg(tmp_path: Path) -> None:
    write(f"{tmp_path}/t/data", ["Text."])
    (tmp_path / "t" / "metadata").mkdir()
    for name in ("v9.metadata.json", "v10.metadata.json", "00002-b.metadata.json", "snap-1.avro"):
        (tmp_path / "t" / "metadata" / name).touch()
    for source in (f"{tmp_path}/t", f"{tmp_path}/t/data"):
        with pytest.raises(TableFolderError, match=r"/t/metadata/v10\.metadata\.json'"):
            discover(source)


def test_of_several_tables_one_is_named_and_the_others_are_counted(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        hudi(f"{tmp_path}/in/{name}")
    with pytest.raises(
        TableFolderError, match=r"/in/a is a Hudi table, as are 2 other folders of this source"
    ):
        discover(f"{tmp_path}/in")


def test_one_file_of_a_table_as_source_is_summarized_with_a_warning(
    lake: str, server: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    hudi(f"{lake}/t")
    arguments = [f"{lake}/t/f-0_0-0-0_1.parquet", f"{lake}/out", "--text-column", "body"]
    assert main(["plan", *arguments]) == 0
    assert f"All files of tables are summarized, though some may be dead: {lake}/t (Hudi)" in caplog.text
    assert main(["run", *arguments, "--no-prefect"]) == 0
    assert server.stats().requests == 10


def test_with_allow_table_folder_all_files_are_summarized_and_metadata_is_counted(
    tmp_path: Path, server: Endpoint, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    delta(f"{tmp_path}/t")
    arguments = [f"{tmp_path}/t", f"{tmp_path}/out", "--text-column", "body", "--allow-table-folder"]
    assert main(["plan", *arguments]) == 0
    shown = " ".join(capsys.readouterr().out.replace("\u2502", "").split())
    assert "left out 2 files of table metadata (_delta_log/00000000000000000000.json," in shown
    assert main(["run", *arguments, "--no-prefect"]) == 0
    assert f"though some may be dead: {tmp_path}/t (Delta)" in caplog.text
    assert server.stats().requests == 15


def test_a_link_into_a_table_is_followed(tmp_path: Path) -> None:
    hudi(f"{tmp_path}/t")
    (tmp_path / "t" / "day=1").mkdir()
    write(f"{tmp_path}/t/day=1", ["Text."])
    (tmp_path / "link").symlink_to(tmp_path / "t" / "day=1")
    with pytest.raises(TableFolderError, match=f"{tmp_path}/t is a Hudi table"):
        discover(f"{tmp_path}/link")


def test_a_parent_folder_on_disk_without_list_permission_is_ignored() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        write(f"{folder}/t/in", ["Text."])
        for name in ("_delta_log", "metadata"):
            Path(folder, "t", name).mkdir(mode=0)
        Path(folder, "t").chmod(0o711)
        with without_privileges():
            found = discover(f"{folder}/t/in")
        assert (len(found.partitions), found.tables) == (1, ())


@pytest.fixture
def limited(bucket: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of which only ``t/in/`` may be listed; a proxy rejects other listings."""
    write(f"{bucket}/t/in", ["Text."])
    hudi(f"{bucket}/t")
    S3FileSystem.clear_instance_cache()
    with faulty_proxy(s3_server.url) as proxy:
        proxy.inject("403", "GET", query=r"prefix=(?!t%2Fin)")
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield bucket
    S3FileSystem.clear_instance_cache()


def test_a_parent_folder_in_a_bucket_without_list_permission_is_ignored(limited: str) -> None:
    found = discover(f"{limited}/t/in")
    assert (len(found.partitions), found.tables) == (1, ())
    with pytest.raises(InputError, match="is denied"):
        discover(f"{limited}/t")


def test_names_are_escaped_in_the_message_and_exact_in_the_code(tmp_path: Path) -> None:
    hudi(f'{tmp_path}/it\'s\n"x"')
    with pytest.raises(TableFolderError) as refused:
        discover(f'{tmp_path}/it\'s\n"x"')
    lines = str(refused.value).splitlines()
    assert len(lines) == 4
    [quoted] = re.findall(r"from_base_uri\((.*)\)\.build", lines[2])
    assert compile(quoted, "", "eval") and eval(quoted) == f'{tmp_path}/it\'s\n"x"'  # noqa: S307, PT018 - our own text
