"""The summarizer's workers: what they report to the limiter, and rows that come when all workers end."""

import asyncio

import pytest

from tasks.core.errors import BreakerError, ParkedError
from tasks.core.model import Outcome, Status
from tasks.core.ratelimit.limiter import Limiter
from tasks.core.ratelimit.window import SMALL
from tests.test_summarizer import ScriptedModel
from tests.textmodels import TextSummarizer
from tests.virtualtime import run_virtually


def test_a_text_that_cannot_be_sent_is_no_answer_of_the_deployments() -> None:
    async def run() -> None:
        limiter, model = Limiter(64), ScriptedModel()
        outcomes = await TextSummarizer(model, limiter).summarize(["\ud800"] * 100)
        assert {outcome.status for outcome in outcomes} == {Status.FAILED}
        assert limiter.window == SMALL
        assert model.requests == []

    run_virtually(run())


def test_rows_that_are_all_rejected_for_no_known_reason_stop_the_run() -> None:
    class Rejecting:
        requests = 0

        async def summarize(self, text: str) -> Outcome:  # noqa: ARG002 - a ChatModel's
            self.requests += 1
            await asyncio.sleep(0.5)
            return Outcome(Status.FAILED, error="HTTP 400, odd")

    async def run() -> None:
        model = Rejecting()
        with pytest.raises(BreakerError, match="HTTP 400, odd"):
            await TextSummarizer(model, Limiter(64)).summarize(f"{n}" for n in range(3000))
        assert model.requests <= 2 * 64

    run_virtually(run())


def test_a_batch_that_comes_the_moment_all_workers_end_finds_workers() -> None:
    async def run() -> None:
        limiter, loop = Limiter(1), asyncio.get_running_loop()
        limiter.rate_limited(60.0)
        summarizer = TextSummarizer(ScriptedModel(), limiter)
        first = loop.create_task(summarizer.summarize(["a", "b"]))
        await asyncio.sleep(1)
        limiter.stop(ParkedError("stop"))
        # Starts behind the steps in which the workers end, and before what is called when they have ended.
        second = loop.create_task(summarizer.summarize(["c"]))
        for ended in (first, second):
            with pytest.raises(ParkedError):
                await asyncio.wait_for(ended, 60)

    run_virtually(run())
