"""OpenTelemetry trace of a run: one span per partition.

Uses the API of OpenTelemetry alone: without a configured SDK, every call does nothing. An error is recorded
by its class, so that no span holds a row's text.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import Span, StatusCode

from tasks.core.reporting.report import PartitionReport


@contextmanager
def partition_span(key: str) -> Iterator[Span]:
    """A span for the work on one partition, as a child of the current span."""
    tracer = trace.get_tracer("summarize-parquet")
    with tracer.start_as_current_span(
        "summarize partition",
        attributes={"summarize_parquet.partition": key},
        # The message and the traceback of an exception may quote a row.
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except BaseException as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(StatusCode.ERROR)
            raise


def add_counts(span: Span, report: PartitionReport) -> None:
    """Add the partition's counts of rows, requests and tokens to its span."""
    tally = report.tally
    span.set_attributes(
        {
            "summarize_parquet.rows": tally.rows,
            "summarize_parquet.failed_rows": tally.failed,
            "summarize_parquet.reused_rows": tally.reused,
            "summarize_parquet.requests": tally.requests,
            "gen_ai.usage.input_tokens": tally.prompt_tokens,
            "gen_ai.usage.output_tokens": tally.completion_tokens,
        }
    )
