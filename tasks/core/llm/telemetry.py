"""What OpenTelemetry hears of a run: a span per partition, and requests by its conventions for generative AI.

Through the API alone: where no SDK is configured, every call here does nothing. Configuring one is the
business of whoever starts the process. Nothing told here holds a row's text: errors are told by their class.
See https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import metrics, trace
from opentelemetry.trace import Span, StatusCode

from tasks.core.model import Outcome
from tasks.core.prompt import Request
from tasks.core.reporting.histogram import SECONDS
from tasks.core.reporting.report import PartitionReport

_NAME = "summarize-parquet"
_TOKENS = tuple(float(4**power) for power in range(14))
"""The conventions' buckets for ``gen_ai.client.token.usage``."""


class RequestMetrics:
    """The metrics of a run's requests.

    Args:
        request: What all requests have in common.
    """

    def __init__(self, request: Request) -> None:
        meter = metrics.get_meter(_NAME)
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="GenAI operation duration.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._usage = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )
        self._common = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "azure.ai.openai",
            "gen_ai.request.model": request.model,
        }

    def answered(self, seconds: float, outcome: Outcome) -> None:
        """Tell of a request that got its answer."""
        told = {
            **self._common,
            "gen_ai.response.model": outcome.model or self._common["gen_ai.request.model"],
        }
        self._duration.record(seconds, told)
        for kind, tokens in (("input", outcome.prompt_tokens), ("output", outcome.completion_tokens)):
            if tokens is not None:
                self._usage.record(tokens, {**told, "gen_ai.token.type": kind})

    def failed(self, seconds: float, error: BaseException) -> None:
        """Tell of a request that got none."""
        self._duration.record(seconds, {**self._common, "error.type": type(error).__name__})


@contextmanager
def partition_span(key: str) -> Iterator[Span]:
    """A span for the work on one partition; below the caller's span, such as Prefect's of the task run."""
    tracer = trace.get_tracer(_NAME)
    with tracer.start_as_current_span(
        "summarize partition",
        attributes={"summarize_parquet.partition": key},
        # An error's message and lines could hold what is private.
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except BaseException as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(StatusCode.ERROR)
            raise


def describe(span: Span, report: PartitionReport) -> None:
    """Tell on a partition's span what came out."""
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
