"""The wheel, beside another project that has its own `flows` and `tasks`, and the editable install."""

import ast
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fsspec.implementations.local import LocalFileSystem

from tests.conftest import Serve
from tests.installing import Installation, built, installed
from tests.prefectserver import ROOT, PrefectServer, free_port
from tests.source_partitions import read, write_partition

ROWS = 12
BLOCKS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
OLD_NAME = re.compile(r"(?<![\w./-])(?:flows|tasks)\.\w")
SAME_CLASSES = """
from flows import logs
from tasks.core import errors
from summarize_parquet import RunReport
from summarize_parquet.errors import InputError
from summarize_parquet.flows import logs as same_logs
from summarize_parquet.tasks.core import errors as same_errors
from tasks.core.reporting import report

assert (same_logs, same_errors, InputError, RunReport) == (logs, errors, errors.InputError, report.RunReport)
assert errors.__spec__.name == "tasks.core.errors"
"""
PUBLIC_NAMES = """
import sys
import summarize_parquet

assert not sys.modules.keys() & {"prefect", "pyarrow", "pydantic"}, "a name is imported at its first use"
from summarize_parquet import *
from summarize_parquet.errors import RunFailedError
from summarize_parquet.tasks.core import errors
import flows, tasks

assert RunFailedError is errors.RunFailedError
assert summarize_parquet.__module__ == "summarize_parquet.flows.summarize"
assert flows.__doc__ == tasks.__doc__ == "The other project's."
"""
DEPLOYMENT = """
pull:
  - prefect.deployments.steps.set_working_directory: {{directory: {folder}}}
deployments:
  - name: installed
    entrypoint: summarize_parquet.flows.summarize.summarize_parquet
    work_pool: {{name: installed}}
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def app(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    new = installed(tmp_path_factory.mktemp("app") / "env", "--offline", wheel)
    for name in ("flows", "tasks"):
        (new.project / name).mkdir()
        (new.project / name / "__init__.py").write_text('"""The other project\'s."""\n')
    return new


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    server = PrefectServer(free_port(), tmp_path_factory.mktemp("prefect"))
    with server.running():
        yield server


@pytest.fixture
def articles(endpoint: Serve, tmp_path: Path) -> Path:
    endpoint()
    texts = [f"Article {row}. It goes on. And on." for row in range(ROWS)]
    write_partition(LocalFileSystem(), f"{tmp_path}/articles/a.parquet", pa.table({"body": texts}))
    return tmp_path / "articles"


def summaries(folder: Path) -> int:
    table = read(LocalFileSystem(), f"{folder}/summaries/a.parquet").read()
    return int(table["summary_status"].to_pylist().count("ok"))


def example(mentions: str, folder: Path) -> str:
    """An example of README.md with the names an installation has, on local folders."""
    [source] = [block for block in BLOCKS if mentions in block]
    source = re.sub(r"from (flows|tasks)\.[\w.]+ import", "from summarize_parquet import", source)
    return source.replace("s3://lake", f"{folder}")


def lines_of(server: PrefectServer, **run: Any) -> list[tuple[str, str]]:
    """A run's log on the server: loggers and messages."""
    [found] = server.api("flow_runs/filter", {"flow_runs": run})
    lines = server.api("logs/filter", {"logs": {"flow_run_id": {"any_": [found["id"]]}}})
    return [(line["name"], line["message"]) for line in lines]


def assert_has_the_flows_lines(lines: list[tuple[str, str]]) -> None:
    [published] = [line for line in lines if "Partition a.parquet: published" in line[1]]
    assert published[0].startswith("summarize_parquet.tasks.")


def test_the_wheel_claims_one_package(app: Installation) -> None:
    added = {path.name for path in app.site_packages.iterdir()}
    [metadata] = app.site_packages.glob("summarize_parquet-*.dist-info")
    assert added - {"dependencies.pth", "_virtualenv.pth", "_virtualenv.py"} == {
        "summarize_parquet",
        metadata.name,
    }


def test_every_file_of_the_checkout_is_in_the_wheel_and_no_line_moved(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for folder in ("flows", "tasks"):
            for path in (ROOT / folder).rglob("*.*"):
                name = path.relative_to(ROOT).as_posix().replace("flows/public/", "")
                if "__pycache__" not in name and name != "checkout.py":
                    content = archive.read(f"summarize_parquet/{name}")
                    assert content.count(b"\n") == path.read_bytes().count(b"\n"), name


def test_in_the_wheel_no_import_and_no_string_has_a_name_of_the_checkout(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in (name for name in archive.namelist() if name.endswith(".py")):
            for node in ast.walk(ast.parse(archive.read(name))):
                found = (node.module or "") + "." if isinstance(node, ast.ImportFrom) else ""
                text = str(node.value) if isinstance(node, ast.Constant) else f"{found}x"
                assert not OLD_NAME.search(text), f"{name}:{getattr(node, 'lineno', 0)}"


def test_public_names_are_imported_beside_another_projects_flows_and_tasks(app: Installation) -> None:
    app.run("python", "-c", PUBLIC_NAMES)


def test_the_command_shows_its_own_name_in_its_help(app: Installation) -> None:
    assert app.run("summarize-parquet", "--help").startswith("usage: summarize-parquet ")


def test_the_installed_demo_shows_summaries(app: Installation, tmp_path: Path) -> None:
    shown = app.run("summarize-parquet", "demo", "--folder", tmp_path / "demo")
    assert "summary" in shown
    assert list((tmp_path / "demo" / "destination").rglob("*.parquet"))


def test_a_script_calls_the_installed_summarizer(app: Installation, articles: Path) -> None:
    script = app.project / "script.py"
    script.write_text(example("parallel_summarize(", articles.parent))
    assert "First text" in app.run("python", script)


def test_another_projects_flow_calls_the_installed_one_whose_log_reaches_its_page(
    app: Installation, prefect: PrefectServer, articles: Path
) -> None:
    script = app.project / "nightly.py"
    script.write_text(example("def nightly", articles.parent) + "\n\nnightly()\n")
    printed = app.run("python", "-W", "error::UserWarning", script, PREFECT_API_URL=prefect.url)
    assert "1 partitions, 12 rows" in printed
    assert summaries(articles.parent) == ROWS
    assert_has_the_flows_lines(lines_of(prefect, name={"any_": [f"summarize {articles}"]}))


def test_a_deployment_with_a_pull_step_runs_the_installed_flow_by_its_entrypoint(
    app: Installation, prefect: PrefectServer, articles: Path
) -> None:
    (app.project / "prefect.yaml").write_text(DEPLOYMENT.format(folder=app.project))
    environment = {"PREFECT_API_URL": prefect.url}
    cli = ("python", "-m", "prefect", "--no-prompt")
    prefect.api("work_pools/", {"name": "installed", "type": "process"})
    app.run(*cli, "deploy", "--all", **environment)
    deployment = prefect.api("deployments/name/summarize-parquet/installed")
    assert deployment["pull_steps"]
    addresses = {
        "source": f"{articles}",
        "destination": f"{articles.parent}/summaries",
        "text_column": "body",
    }
    run = prefect.api(f"deployments/{deployment['id']}/create_flow_run", {"parameters": addresses})
    app.run(*cli, "flow-run", "execute", run["id"], **environment)
    assert prefect.api(f"flow_runs/{run['id']}")["state"]["type"] == "COMPLETED"
    assert summaries(articles.parent) == ROWS
    assert_has_the_flows_lines(lines_of(prefect, id={"any_": [run["id"]]}))


def test_an_editable_install_has_two_names_for_one_module(tmp_path: Path) -> None:
    checkout = installed(tmp_path / "env", "--editable", ROOT)
    checkout.run("python", "-c", SAME_CLASSES, PYTHONPATH="")
    assert "plan" in checkout.run("summarize-parquet", "--help", PYTHONPATH="")


@pytest.fixture
def small_tree(tmp_path: Path) -> Path:
    """This project's build, with two modules in place of its own."""
    tree = tmp_path / "tree"
    (tree / "flows" / "public").mkdir(parents=True)
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    (tree / "tasks").mkdir()
    (tree / "tasks" / "one.py").write_text("")
    return tree


def test_words_that_are_no_names_of_modules_are_left_alone(small_tree: Path, tmp_path: Path) -> None:
    (small_tree / "flows" / "two.py").write_text(
        'KEYS = {"tasks": "tasks/one.py", "é": "my.tasks.one"}; NAME = f"{KEYS} \'tasks.one\'"\n'
        'RUN = ["-m", "flows"], "python -m flows run", "tasks.json"\n'
    )
    with zipfile.ZipFile(built(small_tree, tmp_path / "dist")) as archive:
        content = archive.read("summarize_parquet/flows/two.py").decode()
    assert content == (
        'KEYS = {"tasks": "tasks/one.py", "é": "my.tasks.one"}; '
        "NAME = f\"{KEYS} 'summarize_parquet.tasks.one'\"\n"
        'RUN = ["-m", "summarize_parquet.flows"], "summarize-parquet run", "tasks.json"\n'
    )


def test_an_import_that_cannot_be_rewritten_fails_the_build_with_its_line(
    small_tree: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (small_tree / "flows" / "two.py").write_text("import os\nimport tasks.one\n")
    with pytest.raises(subprocess.CalledProcessError):
        built(small_tree, tmp_path / "dist")
    assert "flows/two.py:2: write `from ... import`" in capfd.readouterr().err
