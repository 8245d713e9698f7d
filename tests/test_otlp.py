"""The extra `otel` as the README has it: a run's spans and metrics arrive at a collector on loopback."""

import os
import subprocess
import sysconfig
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.conftest import Serve
from tests.prefectserver import ROOT, run_of

INSTRUMENT = f"{sysconfig.get_path('scripts')}/opentelemetry-instrument"


class Collector(BaseHTTPRequestHandler):
    """Takes what an exporter sends."""

    received: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        self.received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    received: list[tuple[str, bytes]] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Mine", (Collector,), {"received": received}))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    thread.join()
    server.server_close()


def spans(received: list[tuple[str, bytes]]) -> Counter[str]:
    """How many spans of each name were sent."""
    bodies = [body for path, body in received if path == "/v1/traces"]
    return Counter(
        span.name
        for request in map(ExportTraceServiceRequest.FromString, bodies)
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    )


def counts(received: list[tuple[str, bytes]]) -> dict[str, int]:
    """The last count of each of our metrics, all its series together."""
    bodies = [body for path, body in received if path == "/v1/metrics"]
    return {
        metric.name: sum(point.count for point in metric.histogram.data_points)
        for request in map(ExportMetricsServiceRequest.FromString, bodies)
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name.startswith("gen_ai.")
    }


def test_a_run_under_opentelemetrys_launcher_sends_its_spans_and_metrics_to_the_collector(
    endpoint: Serve, sample: Path, tmp_path: Path, collector: tuple[str, list[tuple[str, bytes]]]
) -> None:
    server, (url, received) = endpoint(), collector
    env = os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    command = [INSTRUMENT, *run_of(str(sample), f"{tmp_path}/out")]
    ended = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=240
    )
    assert ended.returncode == 0, ended.stderr
    assert spans(received)["summarize partition"] == 3
    requests = server.stats().requests
    reported = counts(received)
    assert reported["gen_ai.client.operation.duration"] == requests
    assert reported["gen_ai.client.token.usage"] == 2 * requests
    assert not any(b"test-key" in body for _, body in received)
