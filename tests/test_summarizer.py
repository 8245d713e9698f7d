import asyncio
import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.errors import DeploymentError, ParkedError, RateLimitError, RequestError
from tasks.core.model import Outcome, Status
from tasks.core.ratelimit.limiter import Limiter
from tasks.core.rows.summarizer import RetryPolicy
from tests.textmodels import TextSummarizer
from tests.virtualtime import run_virtually

Step = float | Exception


@dataclass
class ScriptedModel:
    """Answers ``summary of TEXT`` after the latencies and failures scripted for a text."""

    script: dict[str, list[Step]] = field(default_factory=dict)
    latency_s: float = 0.0
    in_flight: int = 0
    peak: int = 0
    requests: list[str] = field(default_factory=list)

    async def summarize(self, text: str) -> Outcome:
        self.requests.append(text)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            await self._next_step(text)
        finally:
            self.in_flight -= 1
        return Outcome(Status.OK, f"summary of {text}", prompt_tokens=1, completion_tokens=1)

    async def _next_step(self, text: str) -> None:
        steps = self.script.get(text, [])
        step = steps.pop(0) if steps else self.latency_s
        if isinstance(step, Exception):
            await asyncio.sleep(self.latency_s)
            raise step
        await asyncio.sleep(step)


def summarize(
    model: ScriptedModel, texts: Iterable[object], window: int = 4, policy: RetryPolicy | None = None
) -> list[Outcome]:
    async def run() -> list[Outcome]:
        return await TextSummarizer(model, Limiter(window), policy or RetryPolicy()).summarize(texts)

    return run_virtually(run())


latencies = st.floats(0, 10)
failures = st.sampled_from(
    [
        RequestError("lost", possibly_paid=True),
        RateLimitError("429"),
        RateLimitError("429", retry_after_s=3.0),
        ValueError(),
    ]
)
texts_and_scripts = st.lists(
    st.tuples(
        st.sampled_from(["row", "", "  ", None, b"\xff"]),
        st.lists(st.one_of(latencies, failures), max_size=8),
    ),
    max_size=40,
)


@given(texts_and_scripts, st.integers(1, 9), st.booleans())
@settings(max_examples=300)
def test_any_latencies_failures_and_window_give_one_outcome_per_row_in_order_within_the_window(
    rows: list[tuple[str | bytes | None, list[Step]]],
    window: int,
    lazily: bool,  # noqa: FBT001 - hypothesis fills it
) -> None:
    texts = [f"row {i}" if text == "row" else text for i, (text, _) in enumerate(rows)]
    model = ScriptedModel({f"row {i}": list(script) for i, (_, script) in enumerate(rows)})
    outcomes = summarize(model, iter(texts) if lazily else texts, window)
    assert len(outcomes) == len(texts)
    assert model.peak <= window
    for text, outcome in zip(texts, outcomes, strict=True):
        sent = model.requests.count(text) if isinstance(text, str) else 0
        assert outcome.requests == sent
        if text is None or (isinstance(text, str) and not text.strip()):
            assert outcome == Outcome(Status.EMPTY)
        elif isinstance(text, bytes):
            assert outcome.status is Status.FAILED
        elif outcome.status is Status.OK:
            assert outcome.text == f"summary of {text}"
        else:
            assert outcome.status is Status.FAILED
            assert outcome.text is None


def test_a_row_that_fails_once_is_sent_again_and_counts_both_requests() -> None:
    model = ScriptedModel({"a": [RequestError("lost", possibly_paid=True)]})
    [outcome] = summarize(model, ["a"])
    assert (outcome.status, outcome.requests, outcome.lost_replies) == (Status.OK, 2, 1)


def test_a_row_that_keeps_failing_ends_as_failed_after_its_attempts() -> None:
    model = ScriptedModel({"a": [RequestError("HTTP 500")] * 99})
    outcomes = summarize(model, ["a", "b"], policy=RetryPolicy(max_attempts=3))
    assert [outcome.status for outcome in outcomes] == [Status.FAILED, Status.OK]
    assert model.requests.count("a") == 3
    assert outcomes[0].error == "3 attempts, the last: HTTP 500"


def test_429s_use_up_no_attempts() -> None:
    model = ScriptedModel({"a": [RateLimitError("429", retry_after_s=1.0)] * 20})
    [outcome] = summarize(model, ["a"], policy=RetryPolicy(max_attempts=1))
    assert (outcome.status, outcome.requests) == (Status.OK, 21)


def test_a_reply_that_is_not_complete_at_the_deadline_is_a_failed_attempt() -> None:
    model = ScriptedModel({"a": [1e6]})
    [outcome] = summarize(model, ["a"], policy=RetryPolicy(attempt_timeout_s=5.0))
    assert (outcome.status, outcome.requests, outcome.lost_replies) == (Status.OK, 2, 1)


def test_an_error_that_concerns_every_row_stops_the_run_within_one_window() -> None:
    model = ScriptedModel({f"{i}": [DeploymentError("HTTP 401")] for i in range(1000)}, latency_s=1.0)
    with pytest.raises(DeploymentError, match="401"):
        summarize(model, [f"{i}" for i in range(1000)], window=7)
    assert len(model.requests) <= 7


def test_a_stop_lets_requests_in_flight_finish_and_ends_rows_that_wait() -> None:
    model = ScriptedModel(
        {"a": [RequestError("lost")] * 5, "b": [3.0], "c": [DeploymentError("HTTP 403")]}, latency_s=0.1
    )

    async def run() -> tuple[list[Outcome | BaseException], float]:
        limiter, loop = Limiter(3, requests_per_minute=1e9), asyncio.get_running_loop()
        done: list[Outcome] = []
        summarizer = TextSummarizer(
            model, limiter, RetryPolicy(first_backoff_s=1e4, longest_backoff_s=1e4), on_outcome=done.append
        )
        with pytest.raises(DeploymentError):
            await summarizer.summarize(["a", "b", "c", "d", "e"])
        return [*done], loop.time()

    done, seconds = run_virtually(run())
    assert [outcome.text for outcome in done if isinstance(outcome, Outcome)] == ["summary of b"]
    assert seconds < 10


def test_a_requested_wait_of_an_hour_stops_the_run_and_the_error_names_it() -> None:
    model = ScriptedModel({"a": [RateLimitError("429", retry_after_s=3600.0)]})
    with pytest.raises(ParkedError, match="3600 s"):
        summarize(model, ["a", "b"])


def test_an_unexpected_exception_fails_one_row_only(caplog: pytest.LogCaptureFixture) -> None:
    model = ScriptedModel({"b": [ZeroDivisionError("secret text")]})
    outcomes = summarize(model, ["a", "b", "c"])
    assert [outcome.status for outcome in outcomes] == [Status.OK, Status.FAILED, Status.OK]
    assert outcomes[1].error == "unexpected ZeroDivisionError"
    assert "secret text" not in caplog.text


def test_no_slot_is_idle_while_rows_wait_before_a_retry() -> None:
    flaky: dict[str, list[Step]] = {f"{i}": [RequestError("lost")] for i in range(0, 400, 4)}
    model = ScriptedModel(flaky, latency_s=1.0)

    async def run() -> float:
        loop = asyncio.get_running_loop()
        await TextSummarizer(model, Limiter(10), RetryPolicy(first_backoff_s=10.0)).summarize(
            f"{i}" for i in range(400)
        )
        return loop.time()

    # 400 rows and 100 repeats of a second each, ten at a time.
    assert run_virtually(run()) < 1.25 * (500 / 10)


def test_rows_are_pulled_when_workers_are_free() -> None:
    pulled = 0
    model = ScriptedModel(latency_s=1.0)

    def rows() -> Iterator[str]:
        nonlocal pulled
        for i in range(10_000):
            pulled = i
            yield f"{i}"

    async def run() -> None:
        work = asyncio.ensure_future(TextSummarizer(model, Limiter(5)).summarize(rows()))
        await asyncio.sleep(10.5)
        assert pulled <= 11 * 5 + 2 * 5
        work.cancel()

    run_virtually(run())


def test_the_number_of_tasks_does_not_grow_with_the_rows() -> None:
    model = ScriptedModel()
    model.requests = []

    async def run() -> int:
        summarizer = TextSummarizer(model, Limiter(64))
        most = 0

        def rows() -> Iterator[str | None]:
            nonlocal most
            for i in range(100_000):
                if i % 10_000 == 0:
                    most = max(most, len(asyncio.all_tasks()))
                yield None

        await summarizer.summarize(rows())
        return most

    assert run_virtually(run()) < 200


def test_memory_is_bounded_by_the_window_and_the_outcomes() -> None:
    class WithoutRecords(ScriptedModel):
        async def summarize(self, text: str) -> Outcome:  # noqa: ARG002 - a model keeps no text here
            await asyncio.sleep(0)
            return Outcome(Status.OK)

    async def run() -> None:
        await TextSummarizer(WithoutRecords(), Limiter(16)).summarize(f"{n}" * 2_000 for n in range(20_000))

    tracemalloc.start()
    run_virtually(run())
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # All texts together are 200 MB; outcomes take some 150 bytes each.
    assert peak_bytes < 20_000_000


def test_a_cancelled_call_ends_at_once_and_leaves_no_task() -> None:
    model = ScriptedModel(latency_s=100.0)

    async def run() -> None:
        work = asyncio.ensure_future(TextSummarizer(model, Limiter(3)).summarize(f"{n}" for n in range(10)))
        await asyncio.sleep(1)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert model.in_flight == 0

    run_virtually(run())


def test_batches_end_in_the_order_they_began_and_share_window_and_workers() -> None:
    ended: list[int] = []
    model = ScriptedModel(latency_s=1.0)

    async def work() -> None:
        summarizer = TextSummarizer(model, Limiter(4))

        async def batch(number: int) -> None:
            await summarizer.summarize([f"{number} {row}" for row in range(20)])
            ended.append(number)

        batches = [asyncio.ensure_future(batch(number)) for number in range(6)]
        await asyncio.sleep(0.5)
        assert len(asyncio.all_tasks()) <= 1 + len(batches) + 2 * 4
        await asyncio.gather(*batches)

    run_virtually(work())
    assert ended == list(range(6))
    assert model.peak == 4


def test_cancelling_a_batch_leaves_workers_for_the_others() -> None:
    model = ScriptedModel(latency_s=1.0)

    async def work() -> list[Outcome]:
        summarizer = TextSummarizer(model, Limiter(2))
        first = asyncio.ensure_future(summarizer.summarize([f"first {row}" for row in range(50)]))
        second = asyncio.ensure_future(summarizer.summarize([f"second {row}" for row in range(8)]))
        await asyncio.sleep(2.5)
        first.cancel()
        return await second

    outcomes = run_virtually(work())
    assert [outcome.text for outcome in outcomes] == [f"summary of second {row}" for row in range(8)]
    assert len(model.requests) == 6 + 8
