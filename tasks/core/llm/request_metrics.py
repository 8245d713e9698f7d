"""OpenTelemetry metrics of a run's requests, by the semantic conventions for generative AI.

Uses the API of OpenTelemetry alone: without a configured SDK, every call does nothing. The SDK is configured
by the program that starts the run. An error is recorded by its class, so that no metric holds a row's text.
See https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/.
"""

from opentelemetry import metrics

from tasks.core.model import Outcome
from tasks.core.prompt import Request
from tasks.core.reporting.histogram import SECONDS

_TOKENS = tuple(float(4**power) for power in range(14))
"""The bucket boundaries that the conventions prescribe for ``gen_ai.client.token.usage``."""


class RequestMetrics:
    """Records each request's duration and token usage.

    Args:
        request: What all requests have in common.
    """

    def __init__(self, request: Request) -> None:
        meter = metrics.get_meter("summarize-parquet")
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
        """Record a request that was answered."""
        attributes = {
            **self._common,
            "gen_ai.response.model": outcome.model or self._common["gen_ai.request.model"],
        }
        self._duration.record(seconds, attributes)
        for kind, tokens in (("input", outcome.prompt_tokens), ("output", outcome.completion_tokens)):
            if tokens is not None:
                self._usage.record(tokens, {**attributes, "gen_ai.token.type": kind})

    def failed(self, seconds: float, error: BaseException) -> None:
        """Record a request that ended without an answer."""
        self._duration.record(seconds, {**self._common, "error.type": type(error).__name__})
