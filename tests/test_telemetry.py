"""Spans and metrics of a run; in a process of its own, since an OpenTelemetry SDK cannot be removed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from tests.conftest import Serve
from tests.source_partitions import partition_table, write_partition

ROOT = Path(__file__).parent.parent
ROWS = 20
REQUESTED = 18

SCRIPT = """
import json, sys
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
metrics.set_meter_provider(MeterProvider([reader]))

from prefect import flow
from flows.summarize import summarize_parquet
from tasks.core.options import LimitOptions, OutputOptions

@flow
def caller(source, destination):
    limits, output = LimitOptions(max_attempts=1), OutputOptions(max_failed_fraction=1.0)
    return summarize_parquet(source, destination, "body", limits=limits, output=output, return_state=True)

with trace.get_tracer("caller").start_as_current_span("nightly"):
    caller(*sys.argv[1:], return_state=True)
points = [
    {"name": metric.name, "unit": metric.unit, "count": point.count, "sum": point.sum, **point.attributes}
    for resource in reader.get_metrics_data().resource_metrics
    for scope in resource.scope_metrics
    for metric in scope.metrics
    if metric.name.startswith("gen_ai.")
    for point in metric.data.data_points
]
exported = [json.loads(span.to_json()) for span in spans.get_finished_spans()]
print(json.dumps({"spans": exported, "points": points}))
"""


@pytest.fixture
def exported(endpoint: Serve, tmp_path: Path) -> dict[str, Any]:
    endpoint()
    for number in range(3):
        table = partition_table(number, ROWS)
        write_partition(LocalFileSystem(), f"{tmp_path}/in/part-{number}.parquet", table)
    texts = table["body"].to_pylist()
    texts[3] = "This one fails. [[fault:server-error]]"
    failing = table.set_column(1, "body", [texts])
    write_partition(LocalFileSystem(), f"{tmp_path}/in/part-2.parquet", failing)
    command = [sys.executable, "-c", SCRIPT, f"{tmp_path}/in", f"{tmp_path}/out"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)
    assert ended.returncode == 0, ended.stderr
    exported: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return exported


def ancestors(span: dict[str, Any], spans: list[dict[str, Any]]) -> list[str]:
    """Ids of the spans above one; Prefect adds spans between a partition and the caller of the run."""
    above = {one["context"]["span_id"]: one["parent_id"] for one in spans}
    found = [span["parent_id"]]
    while (parent := above.get(found[-1])) is not None:
        found.append(parent)
    return found


def test_partitions_are_spans_below_the_callers_span_and_requests_are_metrics_by_the_conventions(
    exported: dict[str, Any],
) -> None:
    [nightly] = [span for span in exported["spans"] if span["name"] == "nightly"]
    partitions = [span for span in exported["spans"] if span["name"] == "summarize partition"]
    assert len(partitions) == 3
    for span in partitions:
        assert span["context"]["trace_id"] == nightly["context"]["trace_id"]
        assert nightly["context"]["span_id"] in ancestors(span, exported["spans"])
        assert span["attributes"]["summarize_parquet.rows"] == ROWS
    assert [span["attributes"]["summarize_parquet.failed_rows"] for span in partitions].count(1) == 1
    points = {
        (one["name"], one.get("error.type"), one.get("gen_ai.token.type")): one for one in exported["points"]
    }
    duration, usage = "gen_ai.client.operation.duration", "gen_ai.client.token.usage"
    assert points[duration, None, None]["count"] == 3 * REQUESTED - 1
    assert points[duration, "RequestError", None]["count"] == 1
    assert (
        points[usage, None, "input"]["count"] == points[usage, None, "output"]["count"] == 3 * REQUESTED - 1
    )
    assert points[usage, None, "input"]["sum"] > 1000
    for point in exported["points"]:
        assert point["gen_ai.operation.name"] == "chat"
        assert point["gen_ai.provider.name"] == "azure.ai.openai"
        assert point["gen_ai.request.model"] == "gpt-4o-mini"
        assert point["unit"] == ("s" if point["name"] == duration else "{token}")
    assert "words follow" not in json.dumps(exported)


def test_without_an_sdk_only_the_api_is_imported() -> None:
    modules = ("tasks.core.reporting.partition_span", "tasks.core.rows.gateway")
    code = f"import sys, {', '.join(modules)}; assert 'opentelemetry.sdk' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
