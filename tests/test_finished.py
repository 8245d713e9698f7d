"""A dataset that is finished; the short form of ``python -m tests.bench.finished``."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.finished import make
from tests.conftest import Serve
from tests.prefectserver import ROOT

PARTITIONS = 300
RUN = """
import sys
from flows.__main__ import main

code = main(["run", *sys.argv[1:], "--text-column", "body", "--prompt", "Summarize."])
print("llama_index" in sys.modules and "LlamaIndex was imported")
sys.exit(code)
"""


@pytest.mark.parametrize(("store", "flags"), [("s3", ()), ("local", ("--no-prefect",))], ids=["s3", "direct"])
def test_a_finished_dataset_says_there_is_nothing_to_do_and_asks_nothing(
    request: pytest.FixtureRequest, endpoint: Serve, tmp_path: Path, store: str, flags: tuple[str, ...]
) -> None:
    llm = endpoint()
    folder = str(tmp_path) if store == "local" else str(request.getfixturevalue("bucket"))
    make(folder, PARTITIONS)
    ended = subprocess.run(
        [sys.executable, "-c", RUN, f"{folder}/in", f"{folder}/out", *flags],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert f"Nothing to do: {PARTITIONS} partitions are finished and unchanged" in ended.stderr
    assert f"{PARTITIONS} finished before and unchanged" in ended.stdout
    assert llm.stats().requests == 0
    # While a server of its own starts, a run loads the client, which costs it no time.
    assert not flags or "LlamaIndex was imported" not in ended.stdout
