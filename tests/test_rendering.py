import io
import json
import pickle

from rich.console import Console

from tasks.core.model import LeftOut, Outcome, Status
from tasks.core.pricing import Price
from tasks.core.reporting.rendering import to_json, to_markdown, to_table
from tasks.core.reporting.report import FailedRow, PartitionReport, PartitionState, RunReport
from tasks.core.reporting.tally import Bill, Tally

GOOD = PartitionReport(
    key="a=1/x.parquet",
    state=PartitionState.PUBLISHED,
    tally=Tally(ok=9, failed=1),
    failures=(FailedRow(4, "HTTP 500"),),
)
BAD = PartitionReport(key="b|c.parquet", state=PartitionState.FAILED, error="row group 2\nis corrupt")
REPORT = RunReport(
    source="s3://in",
    destination="s3://out",
    partitions=(GOOD, BAD),
    left_out=LeftOut(2, 3),
    seconds=2.0,
    bill=Bill(sent=15, answered=10, refused=5, prompt_tokens=1000),
    price=Price(2.0, 8.0),
)


def test_tallies_add_up_and_count_what_rows_cost() -> None:
    outcomes = [
        Outcome(Status.OK, "s", prompt_tokens=5, completion_tokens=2, requests=3, lost_replies=1),
        Outcome(Status.EMPTY),
    ]
    tally = Tally.of(outcomes) + Tally.of(outcomes)
    assert tally == Tally(ok=2, empty=2, requests=6, lost_replies=2, prompt_tokens=10, completion_tokens=4)
    assert tally.rows == 4


def test_a_run_succeeded_only_if_nothing_failed() -> None:
    assert not REPORT.succeeded
    counts = "2 partitions, 10 rows: 1 rows and 1 partitions failed"
    assert REPORT.headline == f"{counts}, 15 requests, 0.0020 USD, 2.0 s"
    clean = RunReport(source="", destination="", partitions=(), left_out=LeftOut(), seconds=0.0)
    assert clean.succeeded


def test_the_table_shows_the_counts_and_the_partitions_that_need_attention() -> None:
    console = Console(width=120, file=io.StringIO())
    console.print(to_table(REPORT))
    text = console.file.getvalue()  # type: ignore[attr-defined]  # the StringIO above
    for expected in (
        "1 of 2 published",
        "2 hidden names, 3 other files",
        "9 ok, 1 failed",
        "5.0 rows/s",
        "s3://out",
        "15 sent, 10 answered, 5 refused",
        "0.0020 USD",
    ):
        assert expected in text
    assert "a=1/x.parquet: 1 of 10 rows failed (row 4: HTTP 500)" in text


def test_markdown_keeps_odd_names_and_messages_in_their_cells() -> None:
    markdown = to_markdown(REPORT)
    assert "| b\\|c.parquet | row group 2 is corrupt |" in markdown


def test_json_has_the_totals_beside_the_partitions() -> None:
    facts = json.loads(to_json(REPORT))
    assert facts["bill"]["sent"] == 15
    assert facts["partitions"][1]["state"] == "failed"
    assert facts["succeeded"] is False


def test_a_report_crosses_processes() -> None:
    assert pickle.loads(pickle.dumps(REPORT)) == REPORT
