"""Format versions: additions of later versions are kept, later formats are rejected before a request."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.errors import DeploymentError, InputError, RunFailedError
from tasks.core.formats import VERSION, check_format
from tasks.core.ledger import segment_format
from tasks.core.ledger.segment_store import SegmentStore
from tasks.core.model import Outcome, Status
from tasks.core.output_facts import fact_key
from tasks.core.planning.estimate import make_plan
from tasks.core.planning.partition_status import inspect_source
from tasks.core.planning.plan import Reason
from tasks.core.reporting import archive
from tasks.core.run.direct import run_directly
from tasks.core.settings import Settings
from tasks.local.endpoint_control import Endpoint
from tests.core_runs import interrupt, job_of, read, run, segments_in, spec_of, tally, texts, write
from tests.test_archive import RUN, report_of

KEY = "part.parquet"


def rewrite_segments(folder: str, change: Callable[[pa.Table], pa.Table]) -> list[Path]:
    """Replace every segment by a changed one; its name is the hash of its bytes."""
    written = []
    for path in Path(folder, "_ledger").rglob("*.segment"):
        sink = io.BytesIO()
        pq.write_table(change(pq.read_table(path)), sink)
        data = sink.getvalue()
        path.unlink()
        request, level, _ = path.name.split("-")
        path.with_name(f"{request}-{level}-{segment_format.digest(data)}.segment").write_bytes(data)
        written.append(path)
    return written


def rewrite_footer(path: Path, **facts: str) -> None:
    """Change entries of an output's footer; the bytes before the footer are not changed."""
    data = path.read_bytes()
    for fact, value in facts.items():
        key = fact_key("summary", fact)
        old = pq.read_metadata(path).metadata[key.encode()]
        assert len(value) == len(old), "of the same length, so that nothing moves"
        head, tail = data[:-2000], data[-2000:]
        data = head + tail.replace(old, value.encode())
    path.write_bytes(data)


def from_the_future(table: pa.Table) -> pa.Table:
    """Add a column, change the order of columns, and give one row an unknown status."""
    status = table["status"].to_pylist()
    status[0] = "deferred"
    place = table.schema.get_field_index("status")
    table = table.set_column(place, "status", pa.array(status))
    table = table.append_column("mood", pa.array([[1.5, None]] * len(table)))
    return table.select(sorted(table.column_names))


def test_a_ledger_with_an_unknown_column_and_status_causes_no_request_and_loses_nothing(
    here: tuple[str, str], server: Endpoint
) -> None:
    paid = interrupt(here, 100)
    segments = len(rewrite_segments(here[1], from_the_future))
    assert segments
    server.reset()
    plan = make_plan(job_of(*here))
    assert (plan.partitions[0].paid, plan.partitions[0].reason) == (len(paid), Reason.INTERRUPTED)
    counted = tally(*here)
    assert server.stats().requests == 100 - len(paid)
    assert (counted.rows, counted.ok, counted.other) == (100, 100 - segments, segments)
    table = read(here[1])
    assert table["summary_status"].to_pylist().count("deferred") == segments
    assert table["summary"].to_pylist() == [f"This is row {n}." for n in range(100)]
    # The output is published and finished, and is reused when the source changes.
    assert [one.reason for one in inspect_source(job_of(*here)).statuses] == [Reason.FINISHED]
    write(here[0], [*texts(100), "One more. Row."])
    assert tally(*here).requests == 1
    assert read(here[1])["summary_status"].to_pylist().count("deferred") == segments


def test_a_segment_with_an_unknown_column_is_not_merged_into_one_without(
    here: tuple[str, str], server: Endpoint
) -> None:
    interrupt(here, 30)
    rewrite_segments(here[1], from_the_future)
    job, before = job_of(*here), sorted(Path(here[1], "_ledger").rglob("*.segment"))
    segments = SegmentStore(job.destination, KEY, job.request.fingerprint)
    segments.read()
    for number in range(17):
        segments.add(segment_format.table_of({bytes([number] * 16): Outcome(Status.OK, "text")}))
    segments.merge()
    after = sorted(Path(here[1], "_ledger").rglob("*.segment"))
    assert set(before) < set(after)
    assert len(after) == len(before) + 1
    assert server.stats().requests


def test_an_output_with_an_unknown_entry_status_and_column_is_finished(
    here: tuple[str, str], server: Endpoint
) -> None:
    write(here[0], texts(20))
    run(*here)
    path, before = Path(here[1], KEY), server.stats().requests
    rewrite_footer(path, statuses='{"ko":20}', program="9.3.0")
    assert [one.reason for one in inspect_source(job_of(*here)).statuses] == [Reason.FINISHED]
    assert run(*here) == []
    # An unknown entry beside those of this version.
    data = path.read_bytes()
    path.write_bytes(
        data.replace(b"summarize_parquet.summary.statuses", b"summarize_parquet.summary.headlice")
    )
    assert run(*here) == []
    write(here[0], [*texts(20), "One more. Row."])
    assert tally(*here).requests == 1
    assert server.stats().requests == before + 1


def test_a_footer_lists_rows_per_status_and_the_limits(here: tuple[str, str], server: Endpoint) -> None:
    write(here[0], [*texts(5), None, "A text. [[fault:length]]", "A text. [[fault:refusal]]"])
    run(*here, max_output_tokens=99)
    entries = pq.read_metadata(Path(here[1], KEY)).metadata
    facts = {
        name: entries[fact_key("summary", name).encode()].decode()
        for name in ("format", "program", "statuses", "max_output_tokens", "truncated_at", "failed_rows")
    }
    assert facts == {
        "format": "3",
        "program": VERSION,
        "statuses": '{"empty":1,"ok":5,"refused":1,"truncated":1}',
        "max_output_tokens": "99",
        "truncated_at": '{"99":1}',
        "failed_rows": "0",
    }
    assert server.stats().requests == 7


def test_an_output_of_a_later_format_is_rejected_with_its_version_and_not_changed(
    here: tuple[str, str], server: Endpoint
) -> None:
    write(here[0], texts(20))
    run(*here)
    path, before = Path(here[1], KEY), server.stats().requests
    data = path.read_bytes()
    data = data.replace(
        b"summarize_parquet.summary.format\x18\x013", b"summarize_parquet.summary.format\x18\x014"
    )
    path.write_bytes(data.replace(VERSION.encode(), b"9.9.9"))
    write(here[0], texts(21))
    frozen = path.read_bytes()
    for act in (run, lambda *folders: make_plan(job_of(*folders))):
        with pytest.raises(InputError, match=r"part\.parquet was written by version 9\.9\.9 .* in format 4"):
            act(*here)
    assert path.read_bytes() == frozen
    assert server.stats().requests == before


def test_a_ledger_of_a_later_format_is_rejected_with_exit_code_2_without_a_request(
    here: tuple[str, str], server: Endpoint
) -> None:
    interrupt(here, 50)

    def newer(table: pa.Table) -> pa.Table:
        return table.replace_schema_metadata({"format": "3", "program": "9.9.9"})

    rewrite_segments(here[1], newer)
    segments = sorted(Path(here[1], "_ledger").rglob("*.segment"))
    server.reset()
    job = job_of(*here)
    with pytest.raises(InputError, match=r"version 9\.9\.9 of this program in format 3"):
        make_plan(job)
    with pytest.raises(RunFailedError) as raised:
        run_directly(spec_of(*here))
    assert raised.value.exit_code == 2
    assert raised.value.report
    assert "version 9.9.9 of this program in format 3" in (raised.value.report.partitions[0].error or "")
    assert server.stats().requests == 0
    assert sorted(Path(here[1], "_ledger").rglob("*.segment")) == segments
    assert not Path(here[1], KEY).exists()


@pytest.mark.parametrize("found", ["4", "3.1", "three", "-1"])
def test_an_unknown_format_number_is_rejected(found: str) -> None:
    with pytest.raises(InputError, match=r"out\.parquet was written by a later version of this program"):
        check_format(found, 3, "\x1b[31m", "out.parquet")


@pytest.mark.parametrize("found", ["", "1", "3"])
def test_earlier_formats_and_a_missing_number_are_accepted(found: str) -> None:
    check_format(found, 3, "", "out.parquet")


def test_the_ledger_keeps_the_reply_as_received(here: tuple[str, str], server: Endpoint) -> None:
    write(here[0], [*texts(30), "A text. [[fault:refusal]]", "A text. [[fault:unauthorized]]"])
    with pytest.raises(DeploymentError):
        run(*here, max_output_tokens=99)
    rows = pa.concat_tables(segments_in(here[1])).to_pylist()
    row = next(row for row in rows if row["status"] == "ok")
    usage = json.loads(row["usage"])
    assert (row["finish_reason"], row["refusal"], row["max_output_tokens"]) == ("stop", None, 99)
    assert usage["prompt_tokens"] == row["prompt_tokens"]
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 0
    assert row["endpoint"] == f"{Settings.from_environment().azure_openai_deployment}@127.0.0.1"
    assert row["received"].tzinfo is not None
    assert row["fingerprint"] == job_of(*here).request.fingerprint
    assert {row["refusal"] for row in rows if row["status"] == "refused"} != {None}
    assert server.stats().requests


def test_a_report_with_unknown_fields_and_states_is_read_and_a_later_format_rejected(
    tmp_path: Path,
) -> None:
    report, job = report_of(tmp_path), job_of_report(tmp_path)
    archive.write(report, job, 0, "2026-11-23T01-00-00Z-06a1c9de", "again")
    (path,) = Path(job.destination.path("_reports")).glob("*.json")
    written: dict[str, Any] = json.loads(path.read_text())
    assert (written["format"], written["program"]) == (2, VERSION)
    written["mood"] = "good"
    written["partitions"][0] |= {"mood": 1, "state": "dreaming"}
    path.write_text(json.dumps(written))
    found = archive.read(job.destination.url, RUN)
    assert (found.partitions[0].state, found.bill) == ("dreaming", report.bill)
    path.write_text(json.dumps({"format": 3, "program": "9.9.9"}))
    with pytest.raises(InputError, match=r"version 9\.9\.9 of this program in format 3"):
        archive.read(job.destination.url, RUN)


def job_of_report(folder: Path) -> Any:
    from tests.enriched_files import job_of as job  # noqa: PLC0415

    return job(f"{folder}/in", f"{folder}/out")
