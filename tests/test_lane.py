"""The rows of a stopped lane go to the other lanes; the run stops with the last one."""

import asyncio
from dataclasses import dataclass, field

import pytest

from tasks.core.errors import BreakerError, DeploymentError, ParkedError, RateLimitError, RequestError
from tasks.core.llm.chat_model import Answer
from tasks.core.model import Outcome, Status
from tasks.core.prompt import RenderedRow
from tasks.core.ratelimit.limiter import Limiter
from tasks.core.ratelimit.ratelimit_headers import RateLimitHeaders
from tasks.core.rows.lane import Lane
from tasks.core.rows.summarizer import RetryPolicy, Summarizer
from tests.textmodels import Rendered
from tests.virtualtime import run_virtually

ROWS = 200
NO_QUOTA = 1e9


@dataclass
class Endpoint:
    """Answers with its name, or raises after some answers."""

    name: str
    error: Exception | None = None
    answers: int = 0
    latency_s: float = 1.0
    completed: list[str] = field(default_factory=list)
    requests: int = 0

    async def complete(self, row: RenderedRow) -> Answer:
        self.requests += 1
        await asyncio.sleep(self.latency_s)
        if self.error and len(self.completed) >= self.answers:
            raise self.error
        self.completed.append(row.messages[-1][1])
        return Answer(Outcome(Status.OK, row.messages[-1][1], model=self.name))


def lane(endpoint: Endpoint, window: int = 8) -> Lane:
    return Lane(endpoint, Limiter(window, requests_per_minute=NO_QUOTA))


def summarize(*endpoints: Endpoint, policy: RetryPolicy = RetryPolicy()) -> list[Outcome]:
    async def run() -> list[Outcome]:
        summarizer = Summarizer([lane(endpoint) for endpoint in endpoints], policy)
        return await summarizer.summarize(Rendered([f"row {number}" for number in range(ROWS)]))

    return run_virtually(run())


def test_rows_go_to_the_lane_with_the_lower_load() -> None:
    fast, slow = Endpoint("fast", latency_s=1.0), Endpoint("slow", latency_s=9.0)
    outcomes = summarize(fast, slow)
    assert [outcome.text for outcome in outcomes] == [f"row {number}" for number in range(ROWS)]
    assert len(slow.completed) > 0
    assert len(fast.completed) > 4 * len(slow.completed)


@pytest.mark.parametrize(
    "error",
    [
        DeploymentError("HTTP 401", status=401),
        RateLimitError("HTTP 429", retry_after_s=3600.0),
        ParkedError("come back later"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_rows_of_a_stopped_lane_go_to_the_other_and_no_row_fails(error: Exception) -> None:
    good, bad = Endpoint("good"), Endpoint("bad", error, answers=20)
    outcomes = summarize(good, bad)
    assert {outcome.status for outcome in outcomes} == {Status.OK}
    assert [outcome.text for outcome in outcomes] == [f"row {number}" for number in range(ROWS)]
    assert len(good.completed) + len(bad.completed) == ROWS
    assert bad.requests <= 20 + 8


def test_the_rows_of_a_lane_whose_circuit_breaker_opened_go_to_the_other() -> None:
    good, bad = Endpoint("good", latency_s=3.0), Endpoint("bad", RequestError("HTTP 500"))
    outcomes = summarize(good, bad, policy=RetryPolicy(max_attempts=50))
    assert {outcome.status for outcome in outcomes} == {Status.OK}
    assert bad.requests < 200


def test_when_all_lanes_are_stopped_the_run_stops_with_the_first_lanes_error() -> None:
    first, second = (
        Endpoint("first", DeploymentError("HTTP 401", status=401), answers=10),
        Endpoint("second", BreakerError("row after row failed"), answers=10),
    )
    with pytest.raises(DeploymentError, match="401"):
        summarize(first, second)
    assert len(first.completed) + len(second.completed) < ROWS


def test_each_lane_keeps_the_quota_of_its_own_headers() -> None:
    class Reporting(Endpoint):
        async def complete(self, row: RenderedRow) -> Answer:
            answer = await super().complete(row)
            return Answer(answer.outcome, RateLimitHeaders(requests_per_s=1.0, requests_left=0.0))

    slow, free = Reporting("slow", latency_s=0.1), Endpoint("free", latency_s=0.1)
    summarize(slow, free)
    assert len(slow.completed) < ROWS / 4
    assert len(free.completed) > ROWS * 3 / 4
