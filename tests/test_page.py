import json
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pyarrow as pa
import pytest
from fsspec.implementations.local import LocalFileSystem

from flows.summarize import summarize_parquet
from tasks.core.errors import BudgetError
from tasks.core.model import LeftOut
from tasks.core.options import LimitOptions, OutputOptions
from tasks.core.reporting.charts import bars, timeline
from tasks.core.reporting.histogram import Histogram
from tasks.core.reporting.page import to_html
from tasks.core.reporting.report import PartitionReport, PartitionState, RunMetrics, RunReport
from tasks.core.reporting.series import Snapshot
from tasks.core.reporting.tally import Bill
from tests.conftest import Serve
from tests.source_partitions import write_partition

SERIES = tuple(
    Snapshot(seconds=10.0 * n, rows=n * n, bill=Bill(sent=n, refused=n // 3), in_flight=n % 7, window=8)
    for n in range(100)
)
REPORT = RunReport(
    source="s3://<in>",
    destination="s3://out",
    partitions=(
        PartitionReport(key="a & <b>.parquet", state=PartitionState.FAILED, error="row group 2 <is> corrupt"),
        PartitionReport(key="c.parquet", state=PartitionState.UNFINISHED),
    ),
    left_out=LeftOut(),
    seconds=990.0,
    bill=Bill(sent=99),
    metrics=RunMetrics(series=SERIES),
)


class Tags(HTMLParser):
    """Opened and closed tags of a page, and what it would load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.loads: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.loads += [name for name, _ in attrs if name in {"src", "href", "onload", "onclick"}]


@pytest.mark.parametrize("series", [SERIES, SERIES[:1], ()], ids=["many", "one", "none"])
def test_the_timeline_is_a_picture_with_a_title_and_a_unit_on_every_axis(
    series: tuple[Snapshot, ...],
) -> None:
    drawn = timeline(series)
    ET.fromstring(drawn)  # noqa: S314 - our own
    for words in ("Rows per second", "Requests in flight", "Errors per second", "since the run began"):
        assert words in drawn
    assert "nan" not in drawn


@pytest.mark.parametrize("counts", [(0, 3, 4, 1), (), (9, 0, 0, 0)], ids=["some", "none", "first"])
def test_a_histogram_is_a_picture_with_a_bar_for_every_bucket_in_use(counts: tuple[int, ...]) -> None:
    drawn = bars(Histogram((1.0, 2.0, 4.0), counts), "Requests", "seconds")
    ET.fromstring(drawn)  # noqa: S314 - our own
    assert drawn.count('class="bar"') == sum(count > 0 for count in counts)


def test_the_page_loads_nothing_runs_nothing_and_shows_odd_names_as_they_are() -> None:
    page = to_html(REPORT, retry_command="prefect flow-run retry 1")
    tags = Tags(page)
    assert "script" not in tags.seen
    assert tags.loads == []
    for words in ("s3://&lt;in&gt;", "a &amp; &lt;b&gt;.parquet", "row group 2 &lt;is&gt; corrupt"):
        assert words in page
    for words in ("Stopped, resumable", "1 partitions were not finished", "prefect flow-run retry 1"):
        assert words in page
    assert "Sample of rows" not in page


def test_a_run_that_stops_and_one_that_ends_both_leave_a_page_and_json_beside_their_output(
    endpoint: Serve, tmp_path: Path
) -> None:
    endpoint(latency_ms=20)
    texts = [f"Marker {row}. The text goes on." for row in range(60)]
    write_partition(LocalFileSystem(), f"{tmp_path}/in/a.parquet", pa.table({"body": texts}))
    arguments = f"{tmp_path}/in", f"{tmp_path}/out", "body"
    with pytest.raises(BudgetError):
        summarize_parquet(*arguments, limits=LimitOptions(max_requests=20))
    summarize_parquet(*arguments, output=OutputOptions(sample_summaries=2))
    stopped, ended = (
        json.loads(path.read_text()) for path in sorted(tmp_path.glob("out/_reports/*.json"), key=age)
    )
    assert (stopped["succeeded"], stopped["partitions"][0]["state"]) == (False, "unfinished")
    assert (ended["succeeded"], ended["bill"]["answered"]) == (True, 40)
    assert sum(ended["observed"]["requests"]["latency_s"]["counts"]) == 40
    assert ended["observed"]["series"][-1]["rows"] == 60
    without, with_samples = (
        path.read_text() for path in sorted(tmp_path.glob("out/_reports/*.html"), key=age)
    )
    assert "Marker" not in without
    assert with_samples.count('<td class="text">Marker ') == 4
    assert "Marker" not in json.dumps([stopped, ended])


def age(path: Path) -> int:
    return path.stat().st_mtime_ns
