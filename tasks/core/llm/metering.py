"""Metering: counts, measures and budgets each request where it is sent, so that report and bill agree.

One ``Meter`` serves all lanes and partitions of a run. It belongs to the gateway's event loop; any thread may
read its counts. It wraps each model below the part that repeats a request with a new token.
"""

import asyncio
from collections import Counter
from dataclasses import fields

from tasks.core.errors import DeploymentError, PipelineError, RequestError
from tasks.core.llm.budget import Budget
from tasks.core.llm.chat_model import Answer, ChatModel
from tasks.core.llm.request_metrics import RequestMetrics
from tasks.core.model import Outcome, Status
from tasks.core.prompt import RenderedRow
from tasks.core.reporting.histogram import SECONDS, TOKENS, HistogramBuilder, Histograms
from tasks.core.reporting.tally import Bill


class Meter:
    """Counts and measures the requests of a run, and reserves each in the budget.

    Args:
        budget: The run's budget.
        metrics: OpenTelemetry metrics of the requests.
    """

    def __init__(self, budget: Budget, metrics: RequestMetrics | None = None) -> None:
        self._budget = budget
        self._metrics = metrics
        # All names are present from the start, since other threads iterate over it.
        self._counts = Counter(dict.fromkeys((field.name for field in fields(Bill)), 0))
        # Keys of rows whose last request was not answered; another request for one of them is a retry.
        self._unanswered: set[bytes] = set()
        self._latency_s = HistogramBuilder(SECONDS)
        self._prompt_tokens, self._completion_tokens = HistogramBuilder(TOKENS), HistogramBuilder(TOKENS)

    @property
    def bill(self) -> Bill:
        """Counts of requests and tokens so far."""
        return Bill(**self._counts)

    @property
    def histograms(self) -> Histograms:
        """Latency and tokens of the answered requests so far."""
        counted = (self._latency_s, self._prompt_tokens, self._completion_tokens)
        return Histograms(*(one.histogram for one in counted))

    def wrap(self, model: ChatModel) -> ChatModel:
        """Wrap a model so that its requests are metered; one that would exceed the budget is not sent."""
        return _MeteredModel(model, self)

    async def complete(self, row: RenderedRow, model: ChatModel) -> Answer:
        """Send one request and count how it ended.

        Raises:
            BudgetError: It would exceed the budget; it was not sent.
        """
        began_s = _now_s()
        with self._budget.reserve(row.size_bytes) as most_usd:
            try:
                answer = await model.complete(row)
            except BaseException as error:
                # After a cancellation or an unexpected exception, the request may have been served.
                end = _end_of(error) if isinstance(error, PipelineError) else "lost"
                self._count(end, row.key)
                if end == "lost":
                    self._budget.record_unknown_cost(most_usd)
                if self._metrics:
                    self._metrics.failed(_now_s() - began_s, error)
                raise
            outcome = answer.outcome
            self._count("answered", row.key)
            self._count_tokens(outcome)
            self._measure(_now_s() - began_s, outcome)
            if outcome.prompt_tokens is None and (outcome.model or outcome.status is Status.FILTERED):
                self._budget.record_unknown_cost(most_usd)
            return answer

    def _count(self, end: str, key: bytes) -> None:
        """Count a request that has ended; one that was not sent is counted as unsent only."""
        self._counts[end] += 1
        if end == "unsent":
            self._budget.cancel_request()
            return
        self._counts["sent"] += 1
        self._counts["retried"] += key in self._unanswered
        if end == "answered":
            self._unanswered.discard(key)
        else:
            self._unanswered.add(key)

    def _count_tokens(self, outcome: Outcome) -> None:
        self._counts["prompt_tokens"] += outcome.prompt_tokens or 0
        self._counts["completion_tokens"] += outcome.completion_tokens or 0
        self._counts["cached_tokens"] += outcome.cached_tokens or 0
        self._budget.record_usage(outcome.prompt_tokens, outcome.completion_tokens)

    def _measure(self, seconds: float, outcome: Outcome) -> None:
        if self._metrics:
            self._metrics.answered(seconds, outcome)
        self._latency_s.add(seconds)
        if outcome.prompt_tokens is not None:
            self._prompt_tokens.add(outcome.prompt_tokens)
        if outcome.completion_tokens is not None:
            self._completion_tokens.add(outcome.completion_tokens)


class _MeteredModel:
    def __init__(self, model: ChatModel, meter: Meter) -> None:
        self._model = model
        self._meter = meter

    async def complete(self, row: RenderedRow) -> Answer:
        return await self._meter.complete(row, self._model)


def _end_of(error: PipelineError) -> str:
    if isinstance(error, RequestError):
        if not error.sent:
            return "unsent"
        return "lost" if error.possibly_paid else "refused"
    # An error without a status is not from the deployment: there was no token, and nothing was sent.
    return "unsent" if isinstance(error, DeploymentError) and error.status is None else "refused"


def _now_s() -> float:
    return asyncio.get_running_loop().time()
