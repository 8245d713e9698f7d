"""README.md's examples for Airflow and Dagster, run by Airflow and Dagster.

    python -m tests.bench.schedulers

Installs each into a virtual environment of its own, since Airflow does not share one with Prefect, and lets
it run the example as it is written, against a Prefect server, a worker, an S3 server and an endpoint on this
machine.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa

from tasks.local.config import EndpointConfig
from tasks.local.endpoint import serve
from tests.prefectserver import ROOT
from tests.s3server import S3Server, running_s3_server
from tests.tables import read, write_partition
from tests.team import Team, installed

PACKAGES = {"dagster": "dagster", "airflow": "apache-airflow"}
ROWS = 10


def main() -> None:
    """Run both, or the one that is named."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.schedulers", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*PACKAGES, []], help="which (default: both)")
    names = parser.parse_args().names or list(PACKAGES)
    with (
        tempfile.TemporaryDirectory() as scratch,
        running_s3_server(Path(scratch)) as s3,
        serve(EndpointConfig()) as llm,
    ):
        (Path(scratch) / "team").mkdir()
        with installed(Path(scratch) / "team", llm, s3.environment) as team:
            for name in names:
                _write_lake(s3)
                _edit_production(team)
                _run(name, Path(scratch) / name, team)
                print(f"{name}: {_summaries(s3)} of {ROWS} rows summarized, {llm.stats().requests} requests")


def _write_lake(s3: S3Server) -> None:
    fs = s3.filesystem()
    if fs.exists("lake"):
        fs.rm("lake", recursive=True)
    fs.mkdir("lake")
    texts = [f"Article {row}. It goes on." for row in range(ROWS)]
    write_partition(fs, "lake/articles/a.parquet", pa.table({"body": texts}))


def _edit_production(team: Team) -> None:
    """What README.md says a team does first."""
    file = team.cwd / "prefect.yaml"
    file.write_text(file.read_text().replace("YOUR-BUCKET", "lake"))
    team.command("deploy", "--name", "production")


def _run(name: str, home: Path, team: Team) -> None:
    """Install it, and let it run the example."""
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    scripts = home / "bin"
    subprocess.run([scripts / "pip", "install", "--quiet", PACKAGES[name], "httpx"], check=True)
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    example = "".join(block for block in blocks if "def run_and_wait" in block or f"import {name}" in block)
    example += "".join(block for block in blocks if f"from {name}" in block)
    folder = home / "dags"
    folder.mkdir()
    env = os.environ | {"PREFECT_API_URL": team.url, "AIRFLOW_HOME": str(home), "DAGSTER_HOME": str(home)}
    env["AIRFLOW__CORE__LOAD_EXAMPLES"] = "false"
    if name == "airflow":
        (folder / "lake.py").write_text(example)
        subprocess.run([scripts / "airflow", "db", "migrate"], env=env, check=True, capture_output=True)
        subprocess.run([scripts / "airflow", "dags", "test", "lake"], env=env, check=True)
    else:
        (folder / "lake.py").write_text(f"{example}\nassert dagster.materialize([summaries]).success\n")
        subprocess.run([scripts / "python", folder / "lake.py"], env=env, check=True)


def _summaries(s3: S3Server) -> int:
    outcomes = read(s3.filesystem(), "lake/summaries/a.parquet").read()["summary_status"].to_pylist()
    return int(outcomes.count("ok"))


if __name__ == "__main__":
    main()
