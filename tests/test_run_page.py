"""What a run shows and emits on a real Prefect server: progress, log, state, report, events, automation."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pytest
from fsspec.implementations.local import LocalFileSystem

from tests.conftest import Serve
from tests.prefectserver import ROOT, PrefectServer, free_port, run_of, wait_until
from tests.source_partitions import write_partition

NO_BLOCK = "00000000-0000-0000-0000-000000000000"
SECRET = "row text nobody may see"


@pytest.fixture(scope="module")
def prefect(new_prefect_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    home = shutil.copytree(new_prefect_home, tmp_path_factory.mktemp("prefect") / "home")
    server = PrefectServer(free_port(), Path(home))
    with server.running():
        yield server


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        texts = [f"{SECRET} {name} {row}. More of it." for row in range(60)]
        texts[7] = f"{SECRET} [[fault:server-error]]"
        write_partition(LocalFileSystem(), f"{tmp_path}/in/{name}.parquet", pa.table({"body": texts}))
    return tmp_path / "in"


def run_id(server: PrefectServer, source: Path) -> str:
    [run] = server.api("flow_runs/filter", {"flow_runs": {"name": {"any_": [f"summarize {source}"]}}})
    return str(run["id"])


def artifacts(server: PrefectServer, run: str) -> dict[str, Any]:
    found = server.api("artifacts/filter", {"flow_runs": {"id": {"any_": [run]}}})
    return {one["key"] or one["type"]: one for one in found}


def events_of(server: PrefectServer) -> list[dict[str, Any]]:
    reported = server.api("events/filter", {"filter": {"event": {"prefix": ["summarize-parquet."]}}})
    events: list[dict[str, Any]] = reported["events"]
    return events


def start(server: PrefectServer, source: Path, *flags: str) -> subprocess.Popen[bytes]:
    env = server.env | {"PREFECT_LOGGING_LEVEL": "INFO"}
    command = run_of(str(source), str(source.parent / "out"), "--max-failed-fraction", "1", *flags)
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def percent(server: PrefectServer, run: str) -> float:
    return float(artifacts(server, run).get("progress", {"data": 0.0})["data"])


def test_the_runs_page_shows_progress_then_its_report_and_its_log(
    endpoint: Serve, prefect: PrefectServer, source: Path
) -> None:
    endpoint(latency_ms=600)
    few = ("--max-attempts", "2", "--alert-failed-rows", "2")
    process = start(prefect, source, "--max-concurrent", "4", *few)
    runs = {"flow_runs": {"name": {"any_": [f"summarize {source}"]}}}
    wait_until(lambda: bool(prefect.api("flow_runs/filter", runs)), within_s=120)
    run = run_id(prefect, source)
    wait_until(lambda: 0 < percent(prefect, run) < 100, within_s=120)
    line = artifacts(prefect, run)["progress"]["description"]
    assert "of 120 rows" in line
    assert "USD so far" in line
    assert process.wait(timeout=240) == 1
    shown = artifacts(prefect, run)
    assert shown["progress"]["data"] == 100
    assert {"summarize-parquet", "summarize-parquet-partitions", "summarize-parquet-timeline"} <= set(shown)
    assert "1 of 60 rows failed (row 7: 2 attempts, the last: HTTP 500" in shown["summarize-parquet"]["data"]
    rows = json.loads(shown["summarize-parquet-partitions"]["data"])
    assert [(row["partition"], row["failed"]) for row in rows] == [("a.parquet", 1), ("b.parquet", 1)]
    assert shown["summarize-parquet-timeline"]["data"].startswith("data:image/svg+xml;base64,")
    [state] = [prefect.api("flow_runs/filter", runs)[0]["state"]]
    assert (state["name"], state["message"][:56]) == (
        "Failed",
        "2 partitions, 120 rows: 2 rows and 0 partitions failed, ",
    )
    logs = prefect.api("logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}})
    lines = "\n".join(one["message"] for one in logs)
    for words in ("Partition a.parquet: started", "Partition b.parquet: published, 60 rows, 1 failed"):
        assert words in lines
    assert SECRET not in json.dumps([logs, shown, state])


class Inbox(BaseHTTPRequestHandler):
    """Takes what an automation sends."""

    letters: list[str]

    def do_POST(self) -> None:
        self.letters.append(self.rfile.read(int(self.headers["content-length"])).decode())
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def inbox() -> Iterator[tuple[str, list[str]]]:
    letters: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Mine", (Inbox,), {"letters": letters}))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", letters
    server.shutdown()
    thread.join()
    server.server_close()


def readmes_automation(block: str) -> str:
    """The automation as the README has it, with this notification block."""
    texts = (ROOT / "README.md").read_text().split("```yaml\n")[1:]
    [text] = [one.split("```")[0] for one in texts if "failed-rows-exceeded" in one]
    assert text.count(NO_BLOCK) == 1
    return text.replace(NO_BLOCK, block)


def notification_block(server: PrefectServer, url: str) -> str:
    code = (
        "from prefect.blocks.notifications import CustomWebhookNotificationBlock as B; import os\n"
        "b = B(name='inbox', url=os.environ['INBOX'], json_data={'text': '{{subject}}: {{body}}'})\n"
        "print(b.save('inbox', overwrite=True))"
    )
    command = [run_of("", "")[0], "-c", code]
    env = server.env | {"INBOX": url}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.split()[-1]


def test_the_readmes_automation_notifies_when_more_rows_failed_than_the_bound(
    endpoint: Serve, prefect: PrefectServer, source: Path, inbox: tuple[str, list[str]], tmp_path: Path
) -> None:
    endpoint()
    url, letters = inbox
    file = tmp_path / "automation.yaml"
    file.write_text(readmes_automation(notification_block(prefect, url)))
    prefect.command("automation", "create", "--from-file", str(file))
    few = ("--max-attempts", "1", "--alert-failed-rows")
    assert start(prefect, source, *few, "2").wait(timeout=240) == 1
    assert start(prefect, source, *few, "1").wait(timeout=240) == 1
    wait_until(lambda: bool(letters))
    assert len(letters) == 1
    assert "2 of 120 rows failed" in letters[0]

    def names() -> list[str]:
        return [one["event"].removeprefix("summarize-parquet.") for one in events_of(prefect)]

    # The automation may act before the server has written down what it acts on.
    wait_until(lambda: "run.failed-rows-exceeded" in names(), every_s=0.25)
    assert names().count("run.failed-rows-exceeded") == 1
    assert names().count("run.planned") >= 2
    assert names().count("partition.published") >= 4
    events = events_of(prefect)
    published = next(one for one in events if one["event"].endswith("partition.published"))
    assert published["payload"]["rows"] == 60
    assert SECRET not in json.dumps(events)


def test_a_spent_budget_and_a_long_wait_are_events_with_counts_and_no_row_text(
    endpoint: Serve, prefect: PrefectServer, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in ("spent", "parked")]
    for folder in folders:
        table = pa.table({"body": [f"{SECRET} {row}. More of it." for row in range(20)]})
        write_partition(LocalFileSystem(), f"{folder}/in/a.parquet", table)
    endpoint()
    spent = start(prefect, folders[0] / "in", "--max-requests", "5")
    endpoint(faults={"gpt-4o-mini": "rate-limit-long"})
    parked = start(prefect, folders[1] / "in")
    assert (spent.wait(timeout=240), parked.wait(timeout=240)) == (3, 4)
    ours = {f"{folder}/out" for folder in folders}

    def reported() -> dict[str, Any]:
        payloads = {one["event"]: one["payload"] for one in events_of(prefect)}
        return {event: one for event, one in payloads.items() if one.get("destination") in ours}

    wait_until(lambda: len(reported()) == 2)
    budget, park = (reported()[f"summarize-parquet.run.{name}"] for name in ("budget-exhausted", "parked"))
    assert (budget["destination"], budget["requests"], budget["unfinished_partitions"]) == (
        f"{folders[0]}/out",
        5,
        1,
    )
    assert (park["destination"], park["wait_s"]) == (f"{folders[1]}/out", 3600)
    assert SECRET not in json.dumps(reported())
