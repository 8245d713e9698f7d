"""The demo: the flow on sample partitions, with an endpoint on loopback and a Prefect server of its own.

Needs no account and no network, and writes only to its folder: the user's Prefect profile is not used.
"""

import os
from pathlib import Path

import pyarrow.parquet as pq
from rich.table import Table
from rich.text import Text

from flows import commands
from flows.output import show, write
from tasks.core.run.spec import RunSpec
from tasks.core.storage.discovery import discover
from tasks.local.endpoint_config import EndpointConfig
from tasks.local.endpoint_process import spawn
from tasks.local.sample import write_sample

_ROWS_SHOWN = 3
_SHOWN_CHARACTERS = 400
_LATENCY_MS = 300
_SIGMA = 0.6
"""Median latency of the endpoint, and its spread (log-normal): long enough to see the progress bar move,
short enough that the demo ends in half a minute."""
_UNSET_VARIABLES = (
    "PREFECT_API_URL",
    "AZURE_OPENAI_API_KEY_BLOCK",
    "AZURE_OPENAI_MODEL",
    "OPENAI_API_VERSION",
)


def run_demo(folder: str) -> None:
    """Write the sample, start the endpoint, run the flow, and print some of the rows.

    Args:
        folder: Of the sample, the output and Prefect's files.

    Raises:
        PipelineError: The run failed.
    """
    home = Path(folder).resolve()
    source, destination = home / "source", home / "destination"
    write_sample(source)
    with spawn(EndpointConfig(latency_ms=_LATENCY_MS, sigma=_SIGMA)) as endpoint:
        _point_environment_at(endpoint.url, home / "prefect")
        commands.run(RunSpec(source=str(source), destination=str(destination), text_column="body"))
    show(_side_by_side(destination))
    write(f"in:  {source}\nout: {destination}")


def _point_environment_at(url: str, prefect_home: Path) -> None:
    """Set the environment of this process, before Prefect reads it; the user's Prefect server is not used."""
    for name in _UNSET_VARIABLES:
        os.environ.pop(name, None)
    os.environ.update(
        AZURE_OPENAI_ENDPOINT=url,
        AZURE_OPENAI_API_KEY="demo",
        AZURE_OPENAI_DEPLOYMENT="gpt-4o-mini",
        PREFECT_HOME=str(prefect_home),
        PREFECT_PROFILE="ephemeral",
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        DO_NOT_TRACK="1",
        NO_PROXY="127.0.0.1,localhost",
    )


def _side_by_side(destination: Path) -> Table:
    """A few rows of the first partition: text and summary."""
    first = discover(str(destination)).partitions[0]
    rows = pq.ParquetFile(first.path).read(columns=["body", "summary", "summary_status"]).to_pylist()
    table = Table(title=first.key, title_justify="left", show_lines=True)
    for column in ("body", "summary"):
        table.add_column(column, ratio=1)
    for row in [row for row in rows if row["summary_status"] == "ok"][:_ROWS_SHOWN]:
        table.add_row(Text(row["body"][:_SHOWN_CHARACTERS]), Text(row["summary"]))
    return table
