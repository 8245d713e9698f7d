"""How long requests take and how many tokens they carry, for the report and for OpenTelemetry.

A gauge stands between the meter and the model; it belongs to the gateway's loop, and is read from anywhere.
"""

import asyncio

from tasks.core.calls.chatmodel import ChatModel
from tasks.core.calls.replies import CANNOT_BE_SENT
from tasks.core.calls.telemetry import RequestMetrics
from tasks.core.model import Outcome
from tasks.core.reports.histogram import SECONDS, TOKENS, Counting, Histograms


class Gauge:
    """A model whose requests are measured.

    Args:
        model: Sends a request.
        metrics: Told of every request too, when they are wanted.
    """

    def __init__(self, model: ChatModel, metrics: RequestMetrics | None = None) -> None:
        self._model = model
        self._metrics = metrics
        self._latency_s = Counting(SECONDS)
        self._prompt_tokens, self._completion_tokens = Counting(TOKENS), Counting(TOKENS)

    @property
    def histograms(self) -> Histograms:
        """What answered requests took so far."""
        counted = (self._latency_s, self._prompt_tokens, self._completion_tokens)
        return Histograms(*(one.histogram for one in counted))

    async def summarize(self, text: str) -> Outcome:
        """Send one request; see ``ChatModel``."""
        began_s = _now_s()
        try:
            outcome = await self._model.summarize(text)
        except BaseException as error:
            if self._metrics:
                self._metrics.failed(_now_s() - began_s, error)
            raise
        if outcome is not CANNOT_BE_SENT:
            self._answered(_now_s() - began_s, outcome)
        return outcome

    def _answered(self, seconds: float, outcome: Outcome) -> None:
        if self._metrics:
            self._metrics.answered(seconds, outcome)
        self._latency_s.add(seconds)
        if outcome.prompt_tokens is not None:
            self._prompt_tokens.add(outcome.prompt_tokens)
        if outcome.completion_tokens is not None:
            self._completion_tokens.add(outcome.completion_tokens)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
