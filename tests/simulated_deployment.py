"""Simulates a deployment with a quota in virtual time, for the tests of request rates."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from tasks.core.errors import RateLimitError
from tasks.core.llm.chat_model import Answer, ChatModel
from tasks.core.model import Outcome, Status
from tasks.core.prompt import RenderedRow
from tasks.core.ratelimit import ratelimit_headers
from tasks.core.ratelimit.limiter import Limiter
from tasks.core.rows.lane import Lane
from tasks.core.rows.summarizer import Summarizer
from tasks.local.quota import Quota
from tests.textmodels import Rendered

Headers = Literal["all", "remaining", "none"]


@dataclass
class Deployment:
    """Replies after a lognormal latency, or with 429 when the quota is used up; records the time of each."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    window_s: float = 10.0
    latency_s: float = 0.5
    sigma: float = 0.3
    refusal_s: float = 0.03
    headers: Headers = "all"
    tokens: float = 750.0
    retry_after: bool = True
    served_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._random = random.Random(7)
        random.seed(7)  # the limiter's jitter, reproducible
        self._quota = Quota(self.requests_per_minute, self.tokens_per_minute, self.window_s, self._loop.time)

    def resize(self, requests_per_minute: float) -> None:
        self._quota.resize(requests_per_minute, self.tokens_per_minute, self.window_s)

    async def complete(self, row: RenderedRow) -> Answer:
        wait_s = self._quota.admit(round(self.tokens))
        limits = ratelimit_headers.parse(self._reported())
        if wait_s:
            self.refused_s.append(self._loop.time())
            await asyncio.sleep(self.refusal_s)
            message = "HTTP 429"
            error = RateLimitError(message, retry_after_s=max(wait_s, 1.0) if self.retry_after else None)
            error.rate_limits = limits
            raise error
        self.served_s.append(self._loop.time())
        await asyncio.sleep(self.latency_s * self._random.lognormvariate(0, self.sigma))
        return Answer(Outcome(Status.OK, row.messages[-1][1]), limits)

    def _reported(self) -> list[tuple[bytes, bytes]]:
        if self.headers == "none":
            return []
        everything = [(name.encode(), value.encode()) for name, value in self._quota.headers().items()]
        return [one for one in everything if self.headers == "all" or b"remaining" in one[0]]

    @property
    def refused_share(self) -> float:
        return len(self.refused_s) / max(1, len(self.served_s) + len(self.refused_s))

    def served(self, from_s: float, to_s: float) -> int:
        return sum(from_s <= at < to_s for at in self.served_s)


async def work_until(end_s: float, limiter: Limiter, model: ChatModel, tokens: float = 750.0) -> None:
    """Send rows until a point in the event loop's time."""
    loop = asyncio.get_running_loop()

    def texts() -> Iterator[str]:
        for number in count():
            if loop.time() >= end_s:
                return
            yield f"{number}"

    await Summarizer([Lane(model, limiter, lambda _: tokens)]).summarize(Rendered(texts()))
