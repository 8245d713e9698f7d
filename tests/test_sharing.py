"""Equal rows are asked once, also while the first one is in flight."""

import asyncio

import pytest

from tasks.core.errors import DeploymentError, RequestError
from tasks.core.ledger.singleflight import SharedReplies
from tasks.core.model import Outcome, Status
from tasks.core.ratelimit.limiter import Limiter
from tasks.core.reporting.tally import Tally
from tasks.core.rows.summarizer import RetryPolicy, Summarizer
from tests.test_summarizer import ScriptedModel
from tests.virtualtime import run_virtually

ONE_ATTEMPT = RetryPolicy(max_attempts=1)


def summarize(
    model: ScriptedModel, *partitions: list[str | None], policy: RetryPolicy = ONE_ATTEMPT
) -> list[list[Outcome]]:
    """Partitions side by side; a row's key is its text."""

    async def run() -> list[list[Outcome]]:
        summarizer = Summarizer(model, Limiter(8), policy)
        keys = [[text.encode() if text else None for text in texts] for texts in partitions]
        return await asyncio.gather(*map(summarizer.summarize, partitions, keys))

    return run_virtually(run())


def test_equal_rows_in_flight_together_are_one_request_and_say_so() -> None:
    model = ScriptedModel(latency_s=1.0)
    one, other = summarize(model, ["a", "b", "a", None], ["a", "c"])
    assert sorted(model.requests) == ["a", "b", "c"]
    assert [outcome.text for outcome in one] == ["summary of a", "summary of b", "summary of a", None]
    assert [outcome.text for outcome in other] == ["summary of a", "summary of c"]
    tally = Tally.of(one) + Tally.of(other)
    assert (tally.ok, tally.requests, tally.reused) == (5, 3, 2)
    assert (tally.prompt_tokens, tally.completion_tokens) == (3, 3)


def test_a_row_that_failed_is_tried_by_the_next_equal_row_itself() -> None:
    model = ScriptedModel({"a": [RequestError("HTTP 500")]}, latency_s=1.0)
    [outcomes] = summarize(model, ["a", "a", "a"])
    assert [outcome.status for outcome in outcomes].count(Status.FAILED) == 1
    assert model.requests == ["a", "a"]


def test_a_stop_wakes_equal_rows_that_wait() -> None:
    model = ScriptedModel({"a": [DeploymentError("HTTP 401")]}, latency_s=1.0)
    with pytest.raises(DeploymentError):
        summarize(model, ["a"] * 50)
    assert model.requests == ["a"]


def test_rows_without_a_key_are_each_asked() -> None:
    model = ScriptedModel()

    async def run() -> None:
        await Summarizer(model, Limiter(8)).summarize(["a", "a"])

    run_virtually(run())
    assert model.requests == ["a", "a"]


def test_memory_is_bounded_and_forgets_what_was_used_longest_ago() -> None:
    asked: list[bytes] = []

    async def run() -> None:
        shared = SharedReplies(remembered=2)

        async def ask(key: bytes) -> Outcome:
            asked.append(key)
            return Outcome(Status.OK)

        for key in (b"a", b"b", b"a", b"c", b"a", b"b"):
            await shared.once(key, lambda key=key: ask(key))  # type: ignore[misc]  # bound at once

    run_virtually(run())
    assert asked == [b"a", b"b", b"c", b"b"]
