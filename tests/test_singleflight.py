"""Rows with equal keys share one request, also while it is in flight; waiting rows hold no worker."""

import asyncio
import random
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.errors import DeploymentError, RequestError, StorageError
from tasks.core.ledger.ledger import Ledger
from tasks.core.ledger.singleflight import RecentReplies, Singleflight, replies_remembered
from tasks.core.llm.chat_model import ChatModel
from tasks.core.model import Outcome, Status
from tasks.core.prompt import RenderedRow
from tasks.core.ratelimit.limiter import Limiter
from tasks.core.reporting.tally import Tally
from tasks.core.rows.gateway import Gateway, LaneSpec
from tasks.core.rows.requester import Requester
from tasks.core.rows.row_source import RowSlice
from tasks.core.rows.summarizer import RetryPolicy
from tasks.core.storage.location import locate
from tests.test_summarizer import ScriptedModel, Step
from tests.textmodels import TEXT_ONLY, OfTexts, TextSummarizer
from tests.virtualtime import run_virtually

ONE_ATTEMPT = RetryPolicy(max_attempts=1)
# With a quota that no test reaches, a limiter opens its window at once.
NO_QUOTA = 1e9

Partition = Sequence[str | None]


def summarize(
    model: ScriptedModel, *partitions: Partition, policy: RetryPolicy = ONE_ATTEMPT, window: int = 8
) -> list[list[Outcome]]:
    """Summarize partitions side by side."""

    async def run() -> list[list[Outcome]]:
        summarizer = TextSummarizer(model, Limiter(window, requests_per_minute=NO_QUOTA), policy)
        return await asyncio.gather(*map(summarizer.summarize, partitions))

    return run_virtually(run())


@dataclass
class OneAtATime(ScriptedModel):
    """Fails if two equal texts are in flight at once."""

    sending: set[str] = field(default_factory=set)

    async def summarize(self, text: str) -> Outcome:
        assert text not in self.sending
        self.sending.add(text)
        try:
            return await super().summarize(text)
        finally:
            self.sending.discard(text)


def test_equal_rows_share_one_request_and_are_counted_as_reused() -> None:
    model = ScriptedModel(latency_s=1.0)
    one, other = summarize(model, ["a", "b", "a", None], ["a", "c"])
    assert sorted(model.requests) == ["a", "b", "c"]
    assert [outcome.text for outcome in one] == ["summary of a", "summary of b", "summary of a", None]
    assert [outcome.text for outcome in other] == ["summary of a", "summary of c"]
    tally = Tally.of(one) + Tally.of(other)
    assert (tally.ok, tally.requests, tally.reused) == (5, 3, 2)
    assert (tally.prompt_tokens, tally.completion_tokens) == (3, 3)


texts = st.lists(st.one_of(st.sampled_from("abcdef"), st.none()), max_size=60)
partitions = st.lists(st.one_of(texts, texts.map(lambda rows: sorted(rows, key=str))), min_size=1, max_size=4)


@given(partitions, st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 10)), st.integers(1, 5))
@settings(max_examples=300)
def test_any_pattern_of_equal_rows_sends_one_request_per_text_and_keeps_order(
    partitions: list[Partition], latencies: dict[str, float], window: int
) -> None:
    model = OneAtATime({text: [latency] for text, latency in latencies.items()}, latency_s=1.0)
    results = summarize(model, *partitions, window=window)
    sent = [[outcome.text for outcome in outcomes] for outcomes in results]
    assert sent == [[text and f"summary of {text}" for text in rows] for rows in partitions]
    requested = [text for rows in partitions for text in rows if text]
    assert sorted(model.requests) == sorted(set(requested))
    tally = sum(map(Tally.of, results), Tally())
    assert (tally.requests, tally.reused) == (len(set(requested)), len(requested) - len(set(requested)))
    assert tally.prompt_tokens == len(set(requested))


failures = st.lists(st.one_of(st.just(RequestError("HTTP 500")), st.floats(0, 5)), max_size=12)


@given(partitions, st.dictionaries(st.sampled_from("abcdef"), failures), st.integers(1, 5), st.integers(1, 3))
@settings(max_examples=300)
def test_after_a_leader_fails_its_waiters_lead_until_one_is_answered(
    partitions: list[Partition], script: dict[str, list[Step]], window: int, max_attempts: int
) -> None:
    model = OneAtATime({text: list(steps) for text, steps in script.items()}, latency_s=1.0)
    results = summarize(model, *partitions, window=window, policy=RetryPolicy(max_attempts=max_attempts))
    rows = [
        pair
        for texts, outcomes in zip(partitions, results, strict=True)
        for pair in zip(texts, outcomes, strict=True)
    ]
    assert len(rows) == sum(map(len, partitions))
    for text in {text for text, _ in rows if text}:
        outcomes = [outcome for of, outcome in rows if of == text]
        refused = next(
            (n for n, step in enumerate(script.get(text, [])) if isinstance(step, float)),
            len(script.get(text, [])),
        )
        failed = min(len(outcomes), refused // max_attempts)
        assert [outcome.status for outcome in outcomes].count(Status.FAILED) == failed
        answered = [outcome for outcome in outcomes if outcome.status is Status.OK]
        assert len(answered) == len(outcomes) - failed
        assert [outcome.reused for outcome in answered].count(False) == bool(answered)
        assert model.requests.count(text) == sum(outcome.requests for outcome in outcomes)


def seconds(rows: Partition) -> float:
    async def run() -> float:
        model = OneAtATime(latency_s=0.1)
        summarizer = TextSummarizer(model, Limiter(64, requests_per_minute=NO_QUOTA))
        outcomes = await summarizer.summarize(rows)
        assert [outcome.text for outcome in outcomes] == [f"summary of {text}" for text in rows]
        assert (len(model.requests), model.peak) == (100, 64)
        return asyncio.get_running_loop().time()

    return run_virtually(run())


def test_a_hundred_texts_in_64_copies_take_as_long_sorted_as_shuffled() -> None:
    rows = [f"{text:02}" for text in range(100) for _ in range(64)]
    shuffled = random.Random(1).sample(rows, len(rows))
    assert seconds(rows) <= 1.2 * seconds(shuffled)


def test_waiting_rows_need_no_task_and_little_memory() -> None:
    class Counting(ScriptedModel):
        tasks = 0

        async def summarize(self, text: str) -> Outcome:
            outcome = await super().summarize(text)
            self.tasks = max(self.tasks, len(asyncio.all_tasks()))
            return outcome

    model, rows = Counting(latency_s=1.0), 32_768
    tracemalloc.start()
    texts = ("equal " * 1000 + "a" for _ in range(rows))  # 200 MB together
    outcomes = run_virtually(_one_batch(model, texts))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(outcomes) == rows
    assert model.tasks <= 1 + 1 + 2 * 4
    assert peak_bytes < 16_000_000


async def _one_batch(model: ScriptedModel, texts: Iterable[str]) -> list[Outcome]:
    return await TextSummarizer(model, Limiter(4, requests_per_minute=NO_QUOTA)).summarize(texts)


def test_after_a_row_failed_the_next_equal_row_is_requested() -> None:
    model = ScriptedModel({"a": [RequestError("HTTP 500")]}, latency_s=1.0)
    [outcomes] = summarize(model, ["a", "a", "a"])
    assert [outcome.status for outcome in outcomes].count(Status.FAILED) == 1
    assert model.requests == ["a", "a"]


def test_a_stop_ends_all_batches_with_waiting_rows() -> None:
    model = ScriptedModel({"a": [DeploymentError("HTTP 401")]}, latency_s=1.0)

    async def run() -> list[list[Outcome] | BaseException]:
        summarizer = TextSummarizer(model, Limiter(8))
        batches = [summarizer.summarize(["a"] * 50) for _ in range(3)]
        return await asyncio.wait_for(asyncio.gather(*batches, return_exceptions=True), 10)

    assert [type(ended) for ended in run_virtually(run())] == [DeploymentError] * 3
    assert model.requests == ["a"]


def test_after_the_leaders_batch_is_cancelled_a_waiter_of_another_batch_leads() -> None:
    model = ScriptedModel(latency_s=10.0)

    async def run() -> list[Outcome]:
        summarizer = TextSummarizer(model, Limiter(8))
        first = asyncio.ensure_future(summarizer.summarize(["a"] * 5))
        second = asyncio.ensure_future(summarizer.summarize(["a"] * 5))
        await asyncio.sleep(1)
        first.cancel()
        outcomes = await asyncio.wait_for(second, 60)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return outcomes

    outcomes = run_virtually(run())
    assert [outcome.text for outcome in outcomes] == ["summary of a"] * 5
    assert (Tally.of(outcomes).requests, Tally.of(outcomes).reused) == (1, 4)
    assert model.requests == ["a", "a"]


def test_cancelling_a_batch_of_waiters_does_not_affect_the_leader() -> None:
    model = ScriptedModel(latency_s=10.0)
    late: list[int] = []

    async def run() -> list[Outcome]:
        summarizer = TextSummarizer(model, Limiter(8))
        first = asyncio.ensure_future(summarizer.summarize(["a"] * 5))
        second = asyncio.ensure_future(summarizer.summarize(["a"] * 5, lambda place, _: late.append(place)))
        await asyncio.sleep(1)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        return await first

    assert [outcome.text for outcome in run_virtually(run())] == ["summary of a"] * 5
    assert (model.requests, late) == (["a"], [])


def test_a_failed_batch_stores_the_replies_its_rows_wait_for_and_requests_no_more() -> None:
    def broken() -> Iterator[str]:
        yield from ["a", "b", "b"]
        message = "the replies cannot be stored"
        raise StorageError(message)

    model = ScriptedModel({"b": [RequestError("HTTP 500")]}, latency_s=1.0)
    kept: list[tuple[int, Status]] = []

    async def run() -> None:
        summarizer = TextSummarizer(model, Limiter(8), ONE_ATTEMPT)
        other = asyncio.ensure_future(summarizer.summarize(["a", "a"]))
        await asyncio.sleep(0)
        with pytest.raises(StorageError):
            await summarizer.summarize(broken(), lambda place, outcome: kept.append((place, outcome.status)))
        await other

    run_virtually(run())
    assert kept == [(0, Status.OK), (1, Status.FAILED)]
    assert model.requests == ["a", "b"]


def test_waiters_of_other_batches_get_a_reply_that_the_leaders_batch_cannot_store() -> None:
    def full(place: int, outcome: Outcome) -> None:
        message = f"disk full at {place}, {outcome.status}"
        raise StorageError(message)

    async def run() -> list[Outcome]:
        summarizer = TextSummarizer(model, Limiter(8))
        first = asyncio.ensure_future(summarizer.summarize(["a", "a"], full))
        second = asyncio.ensure_future(summarizer.summarize(["a", "a"]))
        with pytest.raises(StorageError, match="disk full at 0"):
            await first
        return await second

    model = ScriptedModel(latency_s=1.0)
    assert [outcome.text for outcome in run_virtually(run())] == ["summary of a"] * 2
    assert model.requests == ["a"]


def test_after_give_up_no_waiting_row_is_requested(tmp_path: Path) -> None:
    class Failing:
        def __init__(self) -> None:
            self.sent = 0
            self.given_up = asyncio.Event()

        async def summarize(self, text: str) -> Outcome:  # noqa: ARG002 - a ChatModel's
            self.sent += 1
            await self.given_up.wait()
            message = "HTTP 500"
            raise RequestError(message)

    opened: list[tuple[Failing, asyncio.AbstractEventLoop]] = []

    @asynccontextmanager
    async def open_model(measured: Callable[[ChatModel], ChatModel]) -> AsyncIterator[ChatModel]:
        opened.append((Failing(), asyncio.get_running_loop()))
        yield measured(OfTexts(opened[0][0]))

    limiter = lambda: Limiter(4, requests_per_minute=NO_QUOTA)  # noqa: E731 - built in the gateway's loop
    with (
        Ledger(locate(f"{tmp_path}/out")) as ledger,
        Gateway([LaneSpec(open_model, limiter)], ONE_ATTEMPT) as gateway,
    ):
        [(model, loop)] = opened
        requester = Requester(gateway, ledger.open("k"), (), TEXT_ONLY.max_output_tokens)
        requested = requester.request(RowSlice(["a"] * 100, TEXT_ONLY))
        requested.give_up()
        loop.call_soon_threadsafe(model.given_up.set)
        requested.wait()
        assert model.sent <= 1


def test_the_least_recently_used_reply_is_evicted_first() -> None:
    reply = Outcome(Status.OK, "x" * 1000)
    recent = RecentReplies(max_bytes=3500)
    for key in (b"a", b"b"):
        recent.add(key, reply)
    assert recent.get(b"a") is reply
    recent.add(b"c", reply)
    assert [recent.get(key) for key in (b"a", b"b", b"c")] == [reply, None, reply]
    recent.add(b"d", Outcome(Status.OK, "x" * 5000))
    assert len(recent) == 0


def test_a_flight_without_leader_and_waiters_is_removed() -> None:
    flights: Singleflight[int] = Singleflight()
    row = RenderedRow(b"a", (("user", "text"),), 4)
    assert flights.join(row, 1)
    assert not flights.join(row, 2)
    flights.end(row.key, None)
    assert flights.next_leader() == (row, 2)
    assert flights.next_leader() is None
    assert flights.join(row, 3)


@pytest.mark.parametrize("tokens", [50, 1000])
def test_recent_replies_stay_within_their_bytes_and_a_plan_estimates_their_number(tokens: int) -> None:
    tracemalloc.start()
    recent = RecentReplies(max_bytes=8 * 2**20)
    for number in range(20_000):
        text = f"{number:0{4 * tokens}}"
        recent.add(number.to_bytes(16, "big"), Outcome(Status.OK, text, None, "gpt-4o-mini", number, 300))
    size_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.7 * 8 * 2**20 < size_bytes < 8 * 2**20
    assert len(recent) == pytest.approx(replies_remembered(tokens) / 8, abs=1)
