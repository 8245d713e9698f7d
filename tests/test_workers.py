"""The summarizer's workers: their reports to the limiter, and batches that begin when all workers end."""

import asyncio

import pytest

from tasks.core.errors import BreakerError, ParkedError
from tasks.core.model import Outcome, Status
from tasks.core.ratelimit.limiter import Limiter
from tasks.core.ratelimit.window import INITIAL_SIZE
from tests.test_summarizer import ScriptedModel
from tests.textmodels import TextSummarizer
from tests.virtualtime import run_virtually


def test_a_text_that_cannot_be_sent_does_not_count_as_an_answer() -> None:
    async def run() -> None:
        limiter, model = Limiter(64), ScriptedModel()
        outcomes = await TextSummarizer(model, limiter).summarize(["\ud800"] * 100)
        assert {outcome.status for outcome in outcomes} == {Status.FAILED}
        assert limiter.window == INITIAL_SIZE
        assert model.requests == []

    run_virtually(run())


def test_rows_that_are_all_rejected_with_an_unknown_error_code_stop_the_run() -> None:
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


def test_a_batch_that_begins_when_all_workers_end_gets_new_workers() -> None:
    async def run() -> None:
        limiter, loop = Limiter(1), asyncio.get_running_loop()
        limiter.rate_limited(60.0)
        summarizer = TextSummarizer(ScriptedModel(), limiter)
        first = loop.create_task(summarizer.summarize(["a", "b"]))
        await asyncio.sleep(1)
        limiter.stop(ParkedError("stop"))
        # Starts after the workers end and before the callbacks of their tasks run.
        second = loop.create_task(summarizer.summarize(["c"]))
        for ended in (first, second):
            with pytest.raises(ParkedError):
                await asyncio.wait_for(ended, 60)

    run_virtually(run())
