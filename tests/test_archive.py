"""A run's report, read back as what it was."""

from pathlib import Path

import pytest

from tasks.core.errors import SourceError
from tasks.core.model import LeftOut
from tasks.core.reporting import archive
from tasks.core.reporting.report import FailedRow, PartitionReport, PartitionState, RunReport
from tasks.core.reporting.tally import Bill, Tally
from tests.enriched_files import job_of

RUN = "06a1c9de-0000-0000-0000-000000000000"


def report_of(folder: Path) -> RunReport:
    failed = PartitionReport(
        key="day=1/a.parquet",
        state=PartitionState.FAILED,
        tally=Tally(ok=3, failed=1, requests=6),
        error="1 of 4 rows failed",
        failures=(FailedRow(2, "HTTP 500"),),
    )
    return RunReport(
        source=f"{folder}/in",
        destination=f"{folder}/out",
        partitions=(failed,),
        left_out=LeftOut(hidden=1, other_files=2),
        seconds=1.5,
        bill=Bill(sent=6, answered=3),
    )


@pytest.mark.parametrize("store", ["disk", "bucket"])
def test_a_report_is_read_back_as_it_was(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = str(tmp_path) if store == "disk" else request.getfixturevalue("bucket")
    report = report_of(tmp_path)
    job = job_of(f"{folder}/in", f"{folder}/out")
    for name in ("2026-11-23T01-00-00Z-06a1c9de", "2026-11-23T02-00-00Z-ffffffff"):
        archive.write(report, job, 0, name, "again")
    assert archive.read(f"{folder}/out", RUN) == report


def test_a_run_without_a_report_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=f"No report of the run {RUN}"):
        archive.read(str(tmp_path), RUN)
