import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tasks.core.errors import DeploymentError, InterruptedRunError, ParkedError, SettingsError
from tasks.core.llm.chat_model import ChatModel
from tasks.core.model import Outcome, Status
from tasks.core.options import LimitOptions
from tasks.core.ratelimit.limiter import Limiter
from tasks.core.rows.gateway import Gateway, LaneSpec
from tasks.core.rows.gateway_factory import open_gateway
from tasks.core.rows.summarizer import RetryPolicy
from tasks.core.settings import Settings
from tests.conftest import Serve
from tests.endpoint_requests import REQUEST
from tests.textmodels import OfTexts, Rendered

Measured = Callable[[ChatModel], ChatModel]

# With a quota that no test reaches, a limiter opens its window at once.
NO_QUOTA = 1e9


class LoopBoundModel:
    """Fails if it is used from another loop than its own; the real client would hang."""

    def __init__(self, latency_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._latency_s = latency_s
        self.in_flight = self.peak = self.sent = 0
        self.busy = threading.Event()

    async def summarize(self, text: str) -> Outcome:
        assert asyncio.get_running_loop() is self._loop
        self.busy.set()
        self.sent += 1
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            await asyncio.sleep(self._latency_s)
        finally:
            self.in_flight -= 1
        return Outcome(Status.OK, text)


class Opened:
    """The gateway's model, and whether it was closed in its loop."""

    model: LoopBoundModel
    closed = False


def gateway(opened: Opened, latency_s: float = 0.001, window: int = 5, grace_s: float = 0.0) -> Gateway:
    @asynccontextmanager
    async def open_model(measured: Measured) -> AsyncIterator[ChatModel]:
        opened.model = LoopBoundModel(latency_s)
        yield measured(OfTexts(opened.model))
        opened.closed = True

    limiter = lambda: Limiter(window, requests_per_minute=NO_QUOTA)  # noqa: E731 - built in the gateway's loop
    return Gateway([LaneSpec(open_model, limiter)], RetryPolicy(), grace_s=grace_s)


def test_many_threads_share_one_loop_and_one_window() -> None:
    opened = Opened()
    with gateway(opened) as service, ThreadPoolExecutor(8) as pool:
        texts = [[f"{thread}-{row}" for row in range(30)] for thread in range(8)]
        results = list(pool.map(lambda rows: service.begin(Rendered(rows))(), texts))
    assert [[outcome.text for outcome in outcomes] for outcomes in results] == texts
    assert opened.model.peak == 5
    assert opened.closed


def test_closing_ends_waiting_calls_and_leaves_no_thread() -> None:
    opened = Opened()
    before = threading.active_count()
    with ThreadPoolExecutor(2) as pool:
        with gateway(opened, latency_s=1000.0) as service:
            waiting = [pool.submit(service.begin(Rendered(["a", "b"]))) for _ in range(2)]
            opened.model.busy.wait()
        for partition in waiting:
            with pytest.raises(InterruptedRunError, match="run the same command again"):
                partition.result()
    assert opened.model.in_flight == 0
    assert opened.closed
    assert threading.active_count() == before
    with pytest.raises(InterruptedRunError):
        service.begin(Rendered(["too late"]))()


def test_requests_in_flight_at_closing_are_answered_and_reported_and_no_other_is_sent() -> None:
    opened, reported = Opened(), list[str | None]()
    with gateway(opened, latency_s=0.2, window=3, grace_s=60.0) as service:
        rows = service.begin(
            Rendered([f"{row}" for row in range(100)]), on_row=lambda _, row: reported.append(row.text)
        )
        opened.model.busy.wait()
    with pytest.raises(InterruptedRunError):
        rows()
    assert sorted(row for row in reported if row) == ["0", "1", "2"]
    assert opened.model.sent == 3
    assert opened.closed


def test_a_stopped_gateway_finishes_requests_in_flight_and_starts_no_other() -> None:
    opened, why = Opened(), ParkedError("enough")
    with gateway(opened, latency_s=0.2, window=2) as service, ThreadPoolExecutor() as pool:
        partition = pool.submit(service.begin(Rendered([f"{row}" for row in range(100)])))
        opened.model.busy.wait()
        service.stop(why)
        with pytest.raises(ParkedError, match="enough"):
            partition.result()
        with pytest.raises(ParkedError, match="enough"):
            service.begin(Rendered(["one more"]))()
        assert opened.model.sent == 2
    service.stop(why)


def test_check_raises_after_the_gateway_was_stopped() -> None:
    with gateway(Opened()) as service:
        service.check()
        service.stop(ParkedError("come back later"))
        service.stop(InterruptedRunError("too late"))
        with pytest.raises(ParkedError):
            service.check()


def test_check_raises_after_the_deployment_rejected_every_row(endpoint: Serve) -> None:
    endpoint(api_key="another")
    with open_gateway(Settings.from_environment(), REQUEST, LimitOptions()) as service:
        service.check()
        with pytest.raises(DeploymentError):
            service.begin(Rendered(["a"]))()
        with pytest.raises(DeploymentError):
            service.check()


def test_an_error_while_the_model_opens_is_raised_when_the_gateway_is_entered() -> None:
    opened: LoopBoundModel | None = None

    @asynccontextmanager
    async def open_model(measured: Measured) -> AsyncIterator[ChatModel]:
        if opened is None:
            message = "no key"
            raise SettingsError(message)
        yield measured(OfTexts(opened))

    spec = LaneSpec(open_model, lambda: Limiter(1))
    with pytest.raises(SettingsError, match="no key"), Gateway([spec], RetryPolicy()):
        pass


def test_closing_during_many_short_calls_leaves_no_thread_waiting_and_no_wrong_outcome() -> None:
    for _ in range(30):
        opened = Opened()
        seen: list[Outcome] = []

        def work(service: Gateway, seen: list[Outcome]) -> None:
            with contextlib.suppress(InterruptedRunError):
                while True:
                    seen += service.begin(Rendered(["a"]))()

        with gateway(opened, latency_s=0.0, window=8) as service:
            threads = [threading.Thread(target=work, args=(service, seen)) for _ in range(16)]
            for thread in threads:
                thread.start()
            opened.model.busy.wait()
        for thread in threads:
            thread.join(timeout=10)
            assert not thread.is_alive()
        assert {outcome.status for outcome in seen} <= {Status.OK}


SHORT = replace(REQUEST, max_output_tokens=10)


@pytest.mark.parametrize(
    ("given", "quota"),
    [
        ({"requests_per_minute": 600}, {"requests_per_minute": 600}),
        ({"tokens_per_minute": 12_000}, {"tokens_per_minute": 12_000}),
    ],
)
def test_a_given_quota_is_kept_without_a_refusal(
    endpoint: Serve,
    given: dict[str, float],
    quota: dict[str, float],
) -> None:
    server = endpoint(**quota, latency_ms=20, bucket_window_s=1.0)
    # More than the bucket holds at the start, so only the request rate avoids refusals.
    rows = 30
    limits = LimitOptions(max_concurrent=64, **given)
    with open_gateway(Settings.from_environment(), SHORT, limits) as service:
        outcomes = service.begin(Rendered([f"Row {row}." for row in range(rows)]))()
        assert "64 in flight" in service.state
    assert {outcome.status for outcome in outcomes} == {Status.OK}
    assert server.stats().requests_by_status == {200: rows}


def test_a_quota_that_headers_report_is_kept(endpoint: Serve) -> None:
    server, rows = endpoint(requests_per_minute=6000, latency_ms=20, bucket_window_s=1.0), 300
    with open_gateway(Settings.from_environment(), SHORT, LimitOptions()) as service:
        outcomes = service.begin(Rendered([f"Row {row}." for row in range(rows)]))()
    assert {outcome.status for outcome in outcomes} == {Status.OK}
    # Without a limited request rate there would be hundreds of refusals.
    assert server.stats().requests <= 1.1 * rows
