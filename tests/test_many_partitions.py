"""The benchmark of many tiny partitions, in short: it runs, and what it prints adds up."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_forty_partitions_in_ten_tasks_complete_on_a_server_that_answers(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.bench.many_partitions", "--partitions", "40", "--max-tasks", "10"]
    command += ["--json", str(tmp_path / "figures.json")]
    # Slow answers end it with 1; how fast a busy machine answers is not this test's to judge.
    ended = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    assert ended.stdout, ended.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["completed"] is True
    assert figures["requests"] == 2 * 40 * 5
    assert figures["answers"] > 0
