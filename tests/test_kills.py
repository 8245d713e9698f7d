"""Whole runs killed with all they started; the short form of ``python -m tests.bench.kills``."""

import random
from pathlib import Path

import pytest

from tests.bench.kills import Scene
from tests.conftest import Serve
from tests.core_runs import read, tally, write

ROWS = 300
LATENCY_MS = 200.0
LONGEST_S = ROWS / 20 * LATENCY_MS / 1000


@pytest.mark.parametrize("number", range(2))
def test_a_killed_run_pays_again_for_what_was_in_flight_and_one_commit_interval_at_most(
    endpoint: Serve, bucket: str, prefect_home: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(prefect_home))
    texts = [f"This is row {n}. And more." for n in range(ROWS)]
    write(f"{bucket}/in", texts)
    llm = endpoint(latency_ms=1)
    tally(f"{bucket}/in", f"{bucket}/undisturbed")
    llm.configure(latency_ms=LATENCY_MS)
    scene = Scene(bucket, llm, texts, LATENCY_MS / 1000)
    # The scene checks the output, and that no row in the ledger was asked again.
    kill = scene.kill(random.Random(number).uniform(0.5, LONGEST_S), read(f"{bucket}/undisturbed"), "out")
    assert kill.paid_again <= scene.most_paid_again < ROWS
