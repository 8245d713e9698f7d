"""Formats that grow: what a later version adds is kept, and what cannot be understood is refused unpaid."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.direct import run_directly
from tasks.core.errors import DeploymentError, InputError, RunFailedError
from tasks.core.formats import VERSION, check_format
from tasks.core.ledger import segment_format
from tasks.core.ledger.segment_names import folder_of
from tasks.core.ledger.segment_store import SegmentStore
from tasks.core.model import Outcome, Status
from tasks.core.output_facts import fact_key
from tasks.core.planning.estimate import make_plan
from tasks.core.planning.partition_status import look
from tasks.core.planning.plan import Why
from tasks.core.progress import Progress
from tasks.core.reporting import archive
from tasks.core.rows.gateway_factory import open_gateway
from tasks.core.settings import Settings
from tasks.local.handle import Endpoint
from tests.conftest import Serve
from tests.paying import LIMITS, job_of, read, run, segments_in, tally, write
from tests.test_archive import RUN, report_of

KEY = "part.parquet"


def texts(rows: int) -> list[str | None]:
    return [f"This is row {n}. And more." for n in range(rows)]


@pytest.fixture
def here(tmp_path: Path) -> tuple[str, str]:
    return f"{tmp_path}/in", f"{tmp_path}/out"


@pytest.fixture
def server(endpoint: Serve) -> Endpoint:
    return endpoint()


def interrupt(folders: tuple[str, str], rows: int) -> set[bytes]:
    """A run that is stopped after some replies; returns the keys of the rows that are paid for."""
    write(folders[0], [*texts(rows), "A text. [[fault:unauthorized]]"])
    with pytest.raises(DeploymentError):
        run(*folders)
    write(folders[0], texts(rows))
    return {key for table in segments_in(folders[1]) for key in table["key"].to_pylist()}


def rewrite_segments(folder: str, change: Callable[[pa.Table], pa.Table]) -> list[Path]:
    """Replace every segment by a changed one, under the name that its bytes have."""
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
    """Change entries of an output's footer in place; the bytes before it stay where they are."""
    data = path.read_bytes()
    for fact, value in facts.items():
        key = fact_key("summary", fact)
        old = pq.read_metadata(path).metadata[key.encode()]
        assert len(value) == len(old), "of the same length, so that nothing moves"
        head, tail = data[:-2000], data[-2000:]
        data = head + tail.replace(old, value.encode())
    path.write_bytes(data)


def from_the_future(table: pa.Table) -> pa.Table:
    """One column more, columns in another order, and one row with a status that is not known here."""
    status = table["status"].to_pylist()
    status[0] = "deferred"
    place = table.schema.get_field_index("status")
    table = table.set_column(place, "status", pa.array(status))
    table = table.append_column("mood", pa.array([[1.5, None]] * len(table)))
    return table.select(sorted(table.column_names))


def test_a_ledger_with_one_column_and_one_status_more_costs_no_request_and_loses_nothing(
    here: tuple[str, str], server: Endpoint
) -> None:
    paid = interrupt(here, 100)
    segments = len(rewrite_segments(here[1], from_the_future))
    assert segments
    server.reset()
    plan = make_plan(job_of(*here))
    assert (plan.partitions[0].paid, plan.partitions[0].why) == (len(paid), Why.INTERRUPTED)
    counted = tally(*here)
    assert server.stats().requests == 100 - len(paid)
    assert (counted.rows, counted.ok, counted.other) == (100, 100 - segments, segments)
    table = read(here[1])
    assert table["summary_status"].to_pylist().count("deferred") == segments
    assert table["summary"].to_pylist() == [f"This is row {n}." for n in range(100)]
    # Published, finished, and known when the source changes.
    assert [one.why for one in look(job_of(*here)).stands] == [Why.FINISHED]
    write(here[0], [*texts(100), "One more. Row."])
    assert tally(*here).requests == 1
    assert read(here[1])["summary_status"].to_pylist().count("deferred") == segments


def test_a_segment_with_a_column_more_is_not_merged_into_one_without(
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


def test_a_footer_with_one_entry_one_status_and_one_column_more_is_a_finished_output(
    here: tuple[str, str], server: Endpoint
) -> None:
    write(here[0], texts(20))
    run(*here)
    path, before = Path(here[1], KEY), server.stats().requests
    rewrite_footer(path, statuses='{"ko":20}', program="9.3.0")
    assert [one.why for one in look(job_of(*here)).stands] == [Why.FINISHED]
    assert run(*here) == []
    # An entry this version does not know, beside those it wrote.
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


def test_an_output_of_a_format_that_is_too_new_is_refused_with_its_version_and_left_as_it_is(
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


def test_a_ledger_of_a_format_that_is_too_new_is_refused_with_exit_code_2_and_nothing_is_requested(
    here: tuple[str, str], server: Endpoint
) -> None:
    interrupt(here, 50)

    def newer(table: pa.Table) -> pa.Table:
        return table.replace_schema_metadata({"format": "3", "program": "9.9.9"})

    rewrite_segments(here[1], newer)
    segments = sorted(Path(here[1], "_ledger").rglob("*.segment"))
    server.reset()
    job, progress = job_of(*here), Progress()
    with pytest.raises(InputError, match=r"version 9\.9\.9 of this program in format 3"):
        make_plan(job)
    gateway = open_gateway(Settings.from_environment(), job.request, LIMITS, on_outcome=progress)
    with pytest.raises(RunFailedError) as raised:
        run_directly(job, gateway, progress)
    assert raised.value.exit_code == 2
    assert raised.value.report
    assert "version 9.9.9 of this program in format 3" in (raised.value.report.partitions[0].error or "")
    assert server.stats().requests == 0
    assert sorted(Path(here[1], "_ledger").rglob("*.segment")) == segments
    assert not Path(here[1], KEY).exists()


@pytest.mark.parametrize("found", ["4", "3.1", "three", "-1"])
def test_a_format_version_that_is_no_known_number_is_too_new(found: str) -> None:
    with pytest.raises(InputError, match=r"out\.parquet was written by a later version of this program"):
        check_format(found, 3, "\x1b[31m", "out.parquet")


@pytest.mark.parametrize("found", ["", "1", "3"])
def test_earlier_formats_and_none_are_read(found: str) -> None:
    check_format(found, 3, "", "out.parquet")


def test_the_ledger_keeps_the_reply_as_it_came(here: tuple[str, str], server: Endpoint) -> None:
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


def test_another_deployment_of_the_same_model_and_another_api_version_cost_no_request(
    here: tuple[str, str], server: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_OPENAI_MODEL", "gpt-4o-mini")
    paid = interrupt(here, 60)
    write(here[0], texts(10), "finished.parquet")
    run(f"{here[0]}/finished.parquet", here[1])
    server.reset()
    monkeypatch.setenv("AZURE_OPENAI_DEPLOYMENT", "another-name")
    monkeypatch.setenv("OPENAI_API_VERSION", "2025-04-01-preview")
    assert {one.partition.key: one.why for one in look(job_of(*here)).stands} == {
        "finished.parquet": Why.FINISHED,
        KEY: Why.INTERRUPTED,
    }
    assert tally(*here).reused == len(paid)
    assert server.stats().requests == 60 - len(paid)


def test_truncated_rows_are_requested_again_under_a_larger_limit_and_complete_ones_never(
    here: tuple[str, str], server: Endpoint
) -> None:
    long = "This sentence is " + "very " * 30 + "long. And more."
    write(here[0], ["Short one. More.", long, "A text. [[fault:content-filter]]"])
    run(*here, max_output_tokens=8)
    assert read(here[1])["summary_status"].to_pylist() == ["ok", "truncated", "filtered"]
    assert server.stats().requests == 3
    for limit in (8, 4):
        assert run(*here, max_output_tokens=limit) == []
    larger = job_of(*here, max_output_tokens=16)
    assert [one.why for one in look(larger).stands] == [Why.TRUNCATED_ROWS]
    (plan,) = make_plan(larger).partitions
    assert (plan.paid, plan.requests) == (2, 1)
    assert tally(*here, max_output_tokens=16).requests == 1
    counted = tally(*here, max_output_tokens=64)
    assert (counted.requests, counted.reused, counted.ok) == (1, 2, 2)
    assert server.stats().requests == 5
    # Complete now: no limit changes that.
    for limit in (8, 4000):
        assert run(*here, max_output_tokens=limit) == []


def test_a_truncated_row_of_an_interrupted_run_is_requested_again_under_a_larger_limit_alone(
    here: tuple[str, str], server: Endpoint
) -> None:
    rows = ["A text. [[fault:length]]", *texts(20)]
    write(here[0], [*rows, "A text. [[fault:unauthorized]]"])
    with pytest.raises(DeploymentError):
        run(*here, max_output_tokens=50)
    paid = sum(map(len, segments_in(here[1])))
    write(here[0], rows)
    for limit, cut in ((50, 0), (51, 1)):
        (plan,) = make_plan(job_of(*here, max_output_tokens=limit)).partitions
        assert (plan.paid, plan.requests) == (paid - cut, 21 - paid + cut)
    server.reset()
    assert tally(*here, max_output_tokens=51).truncated == 1
    assert server.stats().requests == 21 - paid + 1


def test_a_truncated_row_whose_next_request_fails_keeps_what_it_has(
    here: tuple[str, str], server: Endpoint
) -> None:
    write(here[0], ["This sentence is " + "very " * 50 + "long. And more."])
    run(*here, max_output_tokens=20)
    before = read(here[1])
    server.configure(fault_rate=1.0)
    counted = tally(*here, max_output_tokens=40)
    assert (counted.truncated, counted.failed) == (1, 0)
    assert read(here[1]).equals(before)
    assert [one.why for one in look(job_of(*here, max_output_tokens=40)).stands] == [Why.TRUNCATED_ROWS]


def test_a_report_with_fields_and_states_of_a_later_version_is_read_and_a_later_format_refused(
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
    from tests.enriching import job_of as job  # noqa: PLC0415

    return job(f"{folder}/in", f"{folder}/out")


def test_a_partition_s_segments_are_in_one_folder_whatever_was_asked(
    here: tuple[str, str], server: Endpoint
) -> None:
    interrupt(here, 10)
    folder = Path(here[1], folder_of(KEY))
    assert {path.parent for path in Path(here[1]).rglob("*.segment")} == {folder}
    assert {path.name[:16] for path in folder.iterdir()} == {job_of(*here).request.fingerprint[:16]}
    assert server.stats().requests
