"""Whole runs killed with all they started; the short form of ``python -m tests.bench.kills``."""

import random
from pathlib import Path

import pytest

from tests.bench.kills import Scene
from tests.conftest import Serve
from tests.paying import write

ROWS = 300
LATENCY_MS = 100.0


def test_a_killed_run_pays_again_for_what_was_in_flight_and_one_commit_interval_at_most(
    endpoint: Serve, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    texts = [f"This is row {n}. And more." for n in range(ROWS)]
    write(f"{bucket}/in", texts)
    scene = Scene(bucket, endpoint(latency_ms=LATENCY_MS), texts, LATENCY_MS / 1000)
    expected, took_s = scene.undisturbed()
    chance = random.Random(bucket)
    kills = [scene.kill(chance.uniform(0.0, took_s), expected, f"out-{number}") for number in range(2)]
    assert all(kill.paid_again <= scene.most_paid_again for kill in kills)
    assert scene.most_paid_again < ROWS
