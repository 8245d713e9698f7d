import itertools
import threading
from dataclasses import replace

from tasks.core.periodic import call_every
from tasks.core.pricing import Price
from tasks.core.reporting.histogram import Histogram, HistogramBuilder
from tasks.core.reporting.rendering import progress_line
from tasks.core.reporting.series import Series, Snapshot
from tasks.core.reporting.tally import Bill


def test_a_series_stays_small_and_keeps_its_ends_and_its_order() -> None:
    series = Series(max_snapshots=100)
    for second in range(12_345):
        series.offer(Snapshot(seconds=second))
    kept = [snapshot.seconds for snapshot in series.ended(Snapshot(seconds=20_000))]
    assert 50 <= len(kept) <= 100
    assert (kept[0], kept[-1]) == (0, 20_000)
    steps = {later - one for one, later in itertools.pairwise(kept[:-1])}
    assert len(steps) == 1


def test_a_histogram_counts_values_and_estimates_quantiles() -> None:
    counting = HistogramBuilder((1.0, 2.0, 4.0))
    for value in (0.5, 1.0, 1.5, 3.0, 100.0):
        counting.add(value)
    histogram = counting.histogram
    assert histogram.counts == (2, 1, 1, 1)
    assert histogram.quantile(0.4) == 1.0
    assert histogram.quantile(0.6) == 2.0
    assert histogram.quantile(1.0) == 4.0
    assert Histogram((1.0,)).quantile(0.5) is None


def test_the_progress_line_shows_percent_rate_time_left_and_cost() -> None:
    before = Snapshot(seconds=10, total_rows=1000, rows=100)
    now = Snapshot(
        seconds=20,
        total_rows=1000,
        rows=300,
        failed_rows=2,
        bill=Bill(prompt_tokens=10**6),
        in_flight=7,
        window=64,
    )
    assert now.percent == 30.0
    counts = "30%, 20.0 rows/s, 0:00:35 left, 2.5000 USD so far, 300 of 1,000 rows, 2 failed"
    assert progress_line(now, before, Price(2.5, 10.0)) == f"{counts}, 7 of 64 requests in flight"
    assert "time left unknown, 300 of" in progress_line(now, now, None)
    # Rows of a partition that is tried again are taken back.
    assert progress_line(replace(before, seconds=30), now, None).startswith(
        "10%, 0.0 rows/s, time left unknown"
    )
    assert Snapshot(seconds=0).percent == 0.0


def test_a_periodic_call_runs_once_more_at_the_end_and_may_fail() -> None:
    calls: list[str] = []

    def call() -> None:
        calls.append(threading.current_thread().name)
        raise ConnectionError

    with call_every(3600.0, call):
        assert not calls
    assert calls == ["ticker"]
