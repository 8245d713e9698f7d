"""The command line as a person meets it: in a process of its own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem

from flows.__main__ import main
from tasks.core.lease.lease import Lease
from tasks.core.storage.location import locate
from tasks.local.endpoint_control import Endpoint
from tests.conftest import Serve
from tests.prefectserver import wait_until
from tests.source_partitions import partition_table, write_partition

ROOT = Path(__file__).parent.parent


def flows(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_help_names_every_option_its_default_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    # Without the line breaks, whose places change with every word.
    text = " ".join(capsys.readouterr().out.split())
    for flag in ("--text-column", "--prompt", "--max-concurrent", "--column-prefix"):
        assert flag in text
    assert "(default: 64)" in text
    assert "exit codes" in text
    assert "5 another run works on" in text


def test_help_does_not_load_prefect() -> None:
    code = (
        "import sys, flows.__main__ as f\n"
        "try: f.main(['--help'])\n"
        "except SystemExit: assert 'prefect' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


def test_a_run_ends_with_0_and_a_table(endpoint: Serve, sample: Path, tmp_path: Path) -> None:
    server = endpoint()
    ended = flows("run", sample, tmp_path / "out", "--text-column", "body", "--max-concurrent", "8")
    assert ended.returncode == 0, ended.stderr
    for expected in ("3 of 3 published", "rows", "tokens", "rows/s", "requests"):
        assert expected in ended.stdout
    assert f"{server.stats().requests} sent" in ended.stdout


WITHOUT_PREFECT = """
import sys
from flows.__main__ import main
code = main(sys.argv[1:])
assert "prefect" not in sys.modules
sys.exit(code)
"""


def test_a_run_without_prefect_does_the_same_and_loads_no_prefect(
    endpoint: Serve, sample: Path, tmp_path: Path
) -> None:
    server = endpoint()
    asked = ["run", f"{sample}", f"{tmp_path}/out", "--text-column", "body", "--no-prefect"]
    command = [sys.executable, "-c", WITHOUT_PREFECT, *asked]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "3 of 3 published" in ended.stdout
    assert f"{server.stats().requests} sent" in ended.stdout
    assert "published, 13 rows" in ended.stderr
    assert main([*asked, "--dry-run"]) == 0
    assert len(list(tmp_path.glob("out/_reports/*.json"))) == 1
    assert main([*asked[:-1]]) == 0
    assert server.stats().row_paid_max == 1


def test_failed_rows_end_with_1_and_name_the_partition(
    endpoint: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint(faults={"gpt-4o-mini": "server-error"})
    write_partition(LocalFileSystem(), f"{tmp_path}/in/a.parquet", partition_table(0, 3))
    arguments = ["run", f"{tmp_path}/in", f"{tmp_path}/out", "--text-column", "body", "--max-attempts", "1"]
    assert main(arguments) == 1
    assert "3 of 3 rows failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{tmp}/nothing", "{tmp}/out", "--text-column", "body"], "No partition found: "),
        (["{tmp}/in", "{tmp}/out", "--text-column", "text"], "column 'text' is missing"),
        (["{tmp}/in", "{tmp}/in/out", "--text-column", "body"], "lie inside each other"),
        (["{tmp}/in", "{tmp}/out", "--text-column", "body", "--max-concurrent", "0"], "--max-concurrent:"),
        (
            ["{tmp}/in", "{tmp}/out", "--text-column", "body", "--column-prefix", "my summary"],
            "--column-prefix:",
        ),
    ],
)
def test_wrong_input_ends_with_2_and_a_sentence_without_a_traceback(
    endpoint: Serve,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    arguments: list[str],
    sentence: str,
) -> None:
    server = endpoint()
    write_partition(LocalFileSystem(), f"{tmp_path}/in/a.parquet", partition_table(0, 3))
    assert main(["run", *(argument.format(tmp=tmp_path) for argument in arguments)]) == 2
    assert sentence in capsys.readouterr().err
    assert not any(record.exc_info for record in caplog.records)
    assert server.stats().requests == 0


@pytest.mark.parametrize("flags", [[], ["--no-prefect"]], ids=["with Prefect", "without"])
def test_a_run_while_another_one_works_there_ends_with_5_and_its_plan_with_0(
    endpoint: Serve, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    server = endpoint()
    arguments = [f"{sample}", f"{tmp_path}/out", "--text-column", "body"]
    with Lease(locate(f"{tmp_path}/out")):
        assert main(["run", *arguments, *flags]) == 5
        assert f"Another run works on {tmp_path}/out: process {os.getpid()} on " in capsys.readouterr().err
        assert main(["plan", *arguments]) == 0
        assert main(["run", *arguments, *flags, "--dry-run"]) == 0
        assert server.stats().requests == 0
    assert main(["run", *arguments, *flags]) == 0


@pytest.mark.parametrize(("command", "code"), [(["plan"], 0), (["plan", "--json"], 0), (["run"], 1)])
def test_a_reader_who_leaves_changes_nothing_of_how_a_command_ends(
    endpoint: Serve, tmp_path: Path, command: list[str], code: int
) -> None:
    endpoint(faults={"gpt-4o-mini": "server-error"})
    write_partition(LocalFileSystem(), f"{tmp_path}/in/a.parquet", partition_table(0, 3))
    arguments = [f"{tmp_path}/in", f"{tmp_path}/out", "--text-column", "body"]
    if command == ["run"]:
        arguments += ["--max-attempts", "1", "--no-prefect"]
    started = subprocess.Popen(
        [sys.executable, "-m", "flows", *command, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with started:
        assert started.stdout
        assert started.stderr
        started.stdout.close()
        errors = started.stderr.read()
    assert started.returncode == code, errors
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors


def test_a_prefect_server_that_does_not_answer_ends_with_2_and_the_variable_without_a_traceback(
    endpoint: Serve, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = endpoint()
    monkeypatch.setenv("PREFECT_API_URL", "http://somebody:secret@127.0.0.1:9/api")
    ended = flows("run", sample, tmp_path / "out", "--text-column", "body")
    assert ended.returncode == 2
    [sentence] = ended.stderr.splitlines()
    assert sentence.startswith("No Prefect server answers at PREFECT_API_URL, 127.0.0.1:9/api (ConnectError)")
    assert server.stats().requests == 0


def test_a_missing_setting_ends_with_2_and_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_OPENAI_ENDPOINT", raising=False)
    monkeypatch.setenv("AZURE_OPENAI_DEPLOYMENT", "d")
    ended = flows("run", tmp_path, tmp_path / "out", "--text-column", "body")
    assert ended.returncode == 2
    assert "AZURE_OPENAI_ENDPOINT is not set" in ended.stderr


def interrupt_when_busy(process: subprocess.Popen[str], server: Endpoint) -> None:
    """Ctrl-C as soon as requests are in flight at the endpoint."""
    wait_until(lambda: process.poll() is not None or server.stats().in_flight > 0)
    process.send_signal(signal.SIGINT)


def test_ctrl_c_ends_with_130_and_publishes_nothing(endpoint: Serve, tmp_path: Path) -> None:
    server = endpoint(latency_ms=60_000)
    write_partition(LocalFileSystem(), f"{tmp_path}/in/a.parquet", partition_table(0, 50))
    command = [
        sys.executable,
        "-m",
        "flows",
        "run",
        f"{tmp_path}/in",
        f"{tmp_path}/out",
        "--text-column",
        "body",
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    interrupt_when_busy(process, server)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Interrupted" in errors
    assert not list(tmp_path.glob("out/**/*.parquet"))
    assert len(list(tmp_path.glob("out/_reports/*.html"))) == 1


def test_the_demo_shows_summaries_beside_their_texts(tmp_path: Path) -> None:
    ended = flows("demo", "--folder", tmp_path / "demo")
    assert ended.returncode == 0, ended.stderr
    assert "4 of 4 published" in ended.stdout
    assert "summary" in ended.stdout
    assert str(tmp_path / "demo" / "destination") in ended.stdout.replace("\n", "")


def test_the_endpoint_stands_in_for_a_deployment_on_its_own() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tasks.local.endpoint", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--tokens-per-minute" in ended.stdout


def test_the_plan_is_printed_as_json_without_prefect_and_without_a_request(
    endpoint: Serve, sample: Path, tmp_path: Path
) -> None:
    server = endpoint()
    code = (
        "import sys, flows.__main__ as f\n"
        "code = f.main(sys.argv[1:])\n"
        "assert not any(name.startswith(('prefect', 'llama_index.core', 'openai')) for name in sys.modules)\n"
        "sys.exit(code)"
    )
    command = [
        sys.executable,
        "-c",
        code,
        "plan",
        sample,
        tmp_path / "out",
        "--text-column",
        "body",
        "--json",
    ]
    ended = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    plan = json.loads(ended.stdout)
    assert plan["totals"]["running"] == len(plan["partitions"]) == 3
    assert plan["totals"]["rows"] == 40
    assert server.stats().requests == 0
    assert not (tmp_path / "out").exists()
    assert main(["run", str(sample), f"{tmp_path}/out", "--text-column", "body"]) == 0
    assert server.stats().requests == plan["totals"]["requests"]


def test_the_plan_takes_the_flags_of_the_run_and_says_when_there_is_nothing_to_do(
    endpoint: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint()
    write_partition(LocalFileSystem(), f"{tmp_path}/in/a.parquet", partition_table(0, 10))
    arguments = [f"{tmp_path}/in", f"{tmp_path}/out", "--text-column", "body", "--max-concurrent", "5"]
    assert main(["plan", *arguments]) == 0
    assert "1 of 1 partitions would run, 9 requests" in capsys.readouterr().out
    assert main(["run", *arguments, "--dry-run"]) == 0
    assert "1 of 1 partitions would run, 9 requests" in capsys.readouterr().out
    assert main(["run", *arguments, "--no-dry-run"]) == 0
    assert main(["plan", *arguments]) == 0
    assert "Nothing to do: 1 partitions are finished and unchanged" in capsys.readouterr().out
    assert main(["plan", *arguments, "--prompt", "Another."]) == 0
    assert "prompt, model or parameters changed" in capsys.readouterr().out
    assert main(["plan", *arguments, "--max-partitions", "0"]) == 2
    assert "--max-partitions:" in capsys.readouterr().err
