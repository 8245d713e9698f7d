"""Measurements of the benchmarks: CPU time with child processes, and rates from the endpoint's counters."""

import sys

import pytest

from tasks.local.counters import Stats
from tests.bench.measuring import Ended, measured, median
from tests.bench.ways import Figure

BUSY = "import time\nwhile time.process_time() < 0.3: pass"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUSY!r}]); print('done')"


def test_the_cpu_time_of_a_program_includes_its_child_processes() -> None:
    ended = measured(sys.executable, "-c", PARENT)
    assert ended.output == "done\n"
    assert ended.cpu_s >= 0.3
    assert ended.seconds > 0.1


def test_a_failing_program_ends_the_benchmark_with_its_output() -> None:
    with pytest.raises(SystemExit, match="exit code 3\nno such bucket"):
        measured(sys.executable, "-c", "import sys; print('no such bucket'); sys.exit(3)")


def test_a_perfect_pool_reaches_window_by_latency_until_the_last_request_and_less_overall() -> None:
    # Ten in flight, one second each: ten requests arrive at 100 s, ten at 101 s, the last ten at 102 s.
    stats = Stats(rows=30, first_request_s=100.0, last_request_s=102.0, last_reply_s=103.0)
    figure = Figure.of("bare", 10, stats, Ended(began_s=98.5, seconds=5, cpu_s=1, output=""), None)
    assert (figure.rows_per_s, figure.steady_per_s, figure.first_request_s) == (10, 10, 1.5)
    slow_last = Stats(rows=30, first_request_s=100.0, last_request_s=102.0, last_reply_s=106.0)
    figure = Figure.of("bare", 10, slow_last, Ended(began_s=98.5, seconds=5, cpu_s=1, output=""), None)
    assert (figure.rows_per_s, figure.steady_per_s) == (5, 10)


def test_a_median_is_over_the_matching_figures() -> None:
    figures = [{"way": way, "s": s} for way, s in [("a", 3.0), ("b", 100.0), ("a", 1.0), ("a", 2.0)]]
    assert median(figures, "s", way="a") == 2
    assert str(median(figures, "s", way="c")) == "nan"
