"""Keys with control characters are shown as one line of visible characters in logs, errors and reports."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tasks.core.errors import PartitionError, PreflightError
from tasks.core.escaping import printable
from tasks.core.model import LeftOut
from tasks.core.planning import plan_view
from tasks.core.planning.grouping import group
from tasks.core.planning.plan import PartitionPlan, Reason, RunPlan
from tasks.core.planning.preflight import preflight
from tasks.core.reporting import rendering
from tasks.core.reporting.page import to_html
from tasks.core.reporting.report import PartitionReport, PartitionState, RunReport
from tasks.core.storage.discovery import discover
from tests.enriched_files import Echo, job_of, run_partition
from tests.source_partitions import write_partition

KEY = "day=1\nPartition x: published/\x1b[2J\u202ea\u2028b.parquet"
SHOWN = r"day=1\nPartition x: published/\x1b[2J\u202ea\u2028b.parquet"


@pytest.mark.parametrize(
    "name", ["a b/c=1/ünï [x]#%.parquet", "日本\N{IDEOGRAPHIC SPACE}.parquet", r"a\b", ""]
)
def test_ordinary_names_are_shown_as_they_are(name: str) -> None:
    assert printable(name) == name


@given(st.text())
def test_any_name_becomes_one_line_that_can_be_encoded(name: str) -> None:
    assert len(printable(f"a{name}b").splitlines()) == 1
    assert printable(name).encode().isascii() or not name.isascii()


def test_the_log_and_the_errors_of_a_partition_show_its_key_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "in" / KEY
    write_partition(LocalFileSystem(), str(source), pa.table({"text": [f"row {n}" for n in range(500)]}))
    job = job_of(f"{tmp_path}/in", f"{tmp_path}/out")
    (partition,) = discover(job.pattern).partitions
    with caplog.at_level("INFO"):
        run_partition(partition, job, Echo())
    assert [line for line in caplog.messages if line.startswith(f"Partition {SHOWN}: ")] == caplog.messages
    assert (tmp_path / "out" / KEY).exists()
    source.write_bytes(source.read_bytes()[:4] + bytes(500) + source.read_bytes()[504:])
    with pytest.raises(PartitionError) as torn:
        run_partition(discover(job.pattern).partitions[0], job, Echo())
    write_partition(LocalFileSystem(), str(source), pa.table({"other": ["a"]}))
    with pytest.raises(PreflightError) as missing:
        preflight(discover(job.pattern), job)
    for error in (torn.value, missing.value):
        assert SHOWN in str(error)
        assert KEY not in str(error)
    [named] = group([partition], 1)
    assert str(named) == SHOWN


def test_reports_and_plans_escape_keys_for_people_but_not_in_json() -> None:
    failed = PartitionReport(key=KEY, state=PartitionState.FAILED, error="torn")
    report = RunReport(
        source="in", destination="out", partitions=(failed,), left_out=LeftOut(), seconds=1.0, orphans=(KEY,)
    )
    planned = PartitionPlan(key=KEY, reason=Reason.NEW, rows=1)
    plan = RunPlan(source="in", destination="out", partitions=(planned,), orphans=(KEY,))
    tables = Console(width=300, file=io.StringIO())
    tables.print(rendering.to_table(report), plan_view.to_table(plan))
    for text in (
        tables.file.getvalue(),  # type: ignore[attr-defined]  # the StringIO above
        rendering.to_markdown(report),
        to_html(report),
        plan_view.to_markdown(plan),
        str(rendering.to_rows(report)[0]["partition"]),
    ):
        assert SHOWN in text
        assert not {"\x1b", "\u202e", "\u2028"} & set(text)
    for told in (rendering.to_json(report), plan_view.to_json(plan)):
        assert json.loads(told)["partitions"][0]["key"] == KEY
