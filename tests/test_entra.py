"""Requests with Entra ID's token: its renewal in the background, and the bill of rejected tokens."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from azure.core.exceptions import ServiceRequestError
from azure.identity import CredentialUnavailableError

from tasks.core.errors import BudgetError, DeploymentError, PipelineError, RequestError
from tasks.core.llm.budget import Budget
from tasks.core.llm.chat_model import Answer, ChatModel
from tasks.core.llm.client import open_model
from tasks.core.llm.entra import RenewingModel, Token
from tasks.core.model import Outcome, Status
from tasks.core.prompt import RenderedRow
from tasks.core.ratelimit.limiter import Limiter
from tasks.core.rows.gateway import Gateway, LaneSpec
from tasks.core.rows.lane import Lane
from tasks.core.rows.summarizer import RetryPolicy, Summarizer
from tasks.core.settings import Settings
from tests.conftest import Serve
from tests.endpoint_requests import REQUEST
from tests.textmodels import Rendered

ROWS, WINDOW = 30, 8
TEXTS = [f"Text {row}." for row in range(ROWS)]


class CountingCredential:
    """Returns token-1, token-2, ..."""

    def __init__(self) -> None:
        self.fetched = 0

    def get_token(self, *scopes: str) -> Any:
        assert scopes == ("https://cognitiveservices.azure.com/.default",)
        self.fetched += 1
        return access_token(f"token-{self.fetched}", 4_000_000_000)


def access_token(token: str, expires_on: int) -> Any:
    return type("AccessToken", (), {"token": token, "expires_on": expires_on})()


class Entra:
    """Entra ID with its own clock: returns token-1, token-2, ..., valid for an hour, or fails.

    Attributes:
        now_s: The clock.
        outage: The error that it raises instead of returning a token; None to return one.
        requested_s: When a token was requested.
        stale: It returns its last token, as azure-identity does while its own renewal fails.
    """

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.outage: Exception | None = None
        self.requested_s: list[float] = []
        self.stale = False
        self._given = access_token("", 0)
        self._number = 0

    def clock(self) -> float:
        return self.now_s

    def get_token(self, *_: str) -> Any:
        self.requested_s.append(self.now_s)
        if self.outage:
            raise self.outage
        if not self.stale:
            self._number += 1
            self._given = access_token(f"token-{self._number}", int(self.now_s) + 3600)
        return self._given


class Deployment:
    """Answers every request; records their tokens."""

    def __init__(self, token: Token) -> None:
        self._token = token
        self.tokens: list[str] = []

    async def complete(self, row: RenderedRow) -> Answer:
        self.tokens.append(self._token.value())
        return Answer(Outcome(Status.OK, row.messages[-1][1]))


async def renewal_ended() -> None:
    """Wait for the thread of a renewal; its result is on the loop afterwards."""
    for thread in threading.enumerate():
        if thread.name == "token":
            await asyncio.to_thread(thread.join)


async def step(entra: Entra, summarizer: Summarizer, seconds: float, period_s: float = 5.0) -> set[Status]:
    """Send three rows at every step of the clock."""
    ended, seen = entra.now_s + seconds, set[Status]()
    while entra.now_s < ended:
        seen |= {
            outcome.status
            for outcome in await summarizer.summarize(Rendered(f"{entra.now_s} {n}" for n in range(3)))
        }
        await renewal_ended()
        entra.now_s += period_s
    return seen


OUTAGES = [
    CredentialUnavailableError("no managed identity endpoint found"),
    ServiceRequestError("connection refused"),
    OSError("not an error of azure's SDK"),
]
outages = pytest.mark.parametrize("error", OUTAGES, ids=lambda error: type(error).__name__)


@outages
def test_an_outage_of_entra_id_of_four_minutes_before_the_token_expires_fails_no_row(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        entra = Entra()
        token = Token(entra, entra.clock)
        deployment = Deployment(token)
        policy = RetryPolicy(max_attempts=1)
        summarizer = Summarizer([Lane(RenewingModel(deployment, token), Limiter(4))], policy)
        assert await step(entra, summarizer, 3600 - 300) == {Status.OK}
        assert len(entra.requested_s) == 1
        entra.outage, began_s = error, entra.now_s
        assert await step(entra, summarizer, 240) == {Status.OK}
        # Retries after 5 s, 10 s, 20 s, then every 30 s, and not at every row.
        assert [int(at_s - began_s) for at_s in entra.requested_s[1:]] == [0, 5, 15, 35, *range(65, 240, 30)]
        assert set(deployment.tokens) == {"token-1"}
        entra.outage = None
        assert await step(entra, summarizer, 60 + 300) == {Status.OK}
        assert deployment.tokens[-1] == "token-2"
        assert entra.requested_s[-1] <= began_s + 240 + 30

    asyncio.run(work())
    assert "token expires in 300 s and its renewal failed" in caplog.text
    assert "token-1" not in caplog.text


@outages
def test_rows_that_need_a_token_after_it_expired_share_one_renewal_and_its_failure(
    error: Exception,
) -> None:
    async def work() -> None:
        entra = Entra()
        token = Token(entra, entra.clock)
        await token.refresh_if_due()
        entra.outage, entra.now_s = error, entra.now_s + 3600
        failures = await asyncio.gather(*(token.refresh_if_due() for _ in range(20)), return_exceptions=True)
        expected = DeploymentError if isinstance(error, CredentialUnavailableError) else RequestError
        assert {type(failure) for failure in failures} == {expected}
        assert len(set(map(id, failures))) == 20
        assert all(isinstance(failure, PipelineError) and not failure.__context__ for failure in failures)
        assert len(entra.requested_s) == 2
        entra.outage = None
        await token.refresh_if_due()
        assert token.value() == "token-2"

    asyncio.run(work())


def test_a_renewal_that_returns_the_same_token_is_not_repeated_at_every_request() -> None:
    async def work() -> None:
        entra = Entra()
        token = Token(entra, entra.clock)
        deployment = Deployment(token)
        summarizer = Summarizer([Lane(RenewingModel(deployment, token), Limiter(4))])
        await step(entra, summarizer, 3600 - 300)
        entra.stale = True
        await step(entra, summarizer, 200)
        assert len(entra.requested_s) < 12
        entra.stale = False
        await step(entra, summarizer, 40)
        assert deployment.tokens[-1] == "token-2"

    asyncio.run(work())


def test_cancelling_a_row_that_waits_for_a_token_does_not_cancel_the_renewal() -> None:
    async def work() -> None:
        entra = Entra()
        token = Token(entra, entra.clock)
        gone, waiting = (asyncio.ensure_future(token.refresh_if_due()) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        await waiting
        assert token.value() == "token-1"
        assert len(entra.requested_s) == 1

    asyncio.run(work())


class Hanging(Entra):
    """Blocks its second request until the test sets the event."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = threading.Event()

    def get_token(self, *scopes: str) -> Any:
        given = super().get_token(*scopes)
        if len(self.requested_s) > 1:
            self.answers.wait()
        return given


def test_a_renewal_that_hangs_delays_neither_rows_nor_the_end_of_the_run() -> None:
    entra = Hanging()

    @asynccontextmanager
    async def open_model(measured: Callable[[ChatModel], ChatModel]) -> AsyncIterator[ChatModel]:
        token = Token(entra, entra.clock)
        await token.refresh_if_due()
        entra.now_s += 3400
        yield RenewingModel(measured(Deployment(token)), token)

    assert statuses(Gateway([LaneSpec(open_model, lambda: Limiter(WINDOW))], RetryPolicy())) == {Status.OK}
    [thread] = [thread for thread in threading.enumerate() if thread.name == "token"]
    assert len(entra.requested_s) == 2
    entra.answers.set()
    thread.join()


def gateway_of(credential: Any, budget: Budget | None = None) -> Gateway:
    settings = Settings.from_environment()
    spec = LaneSpec(
        lambda metered: open_model(
            *(settings.endpoint, REQUEST),
            max_connections=WINDOW,
            timeout_s=20,
            credential=lambda: credential,
            metered=metered,
        ),
        lambda: Limiter(WINDOW),
    )
    return Gateway([spec], RetryPolicy(), budget)


def statuses(gateway: Gateway, texts: Iterable[str] = TEXTS) -> set[Status]:
    with gateway:
        return {outcome.status for outcome in gateway.begin(Rendered(texts))()}


def test_a_rejected_token_is_renewed_once_and_every_request_with_it_is_on_the_bill(
    endpoint: Serve,
) -> None:
    server, credential = endpoint(api_key="token-2", record_bodies=True), CountingCredential()
    gateway = gateway_of(credential)
    assert statuses(gateway) == {Status.OK}
    assert credential.fetched == 2
    rejected = server.stats().requests - ROWS
    assert 1 <= rejected <= WINDOW
    bill = gateway.bill
    assert (bill.sent, bill.answered) == (server.stats().requests, ROWS)
    assert (bill.refused, bill.retried) == (rejected, rejected)
    assert gateway.histograms.latency_s.total == ROWS
    assert all("api-key" not in recorded.headers for recorded in server.bodies)


def test_a_token_that_stays_rejected_stops_the_run_within_one_window(
    endpoint: Serve,
) -> None:
    server, gateway = endpoint(api_key="never"), gateway_of(CountingCredential())
    with pytest.raises(DeploymentError, match="not accepted"):
        statuses(gateway)
    requests = server.stats().requests
    # Each request in flight, and its retry with the new token.
    assert requests <= 2 * WINDOW
    assert (gateway.bill.sent, gateway.bill.refused) == (requests, requests)


def test_a_request_repeated_with_a_new_token_counts_in_the_budget_too(endpoint: Serve) -> None:
    server = endpoint(api_key="token-2")
    gateway = gateway_of(CountingCredential(), Budget(max_requests=ROWS))
    with pytest.raises(BudgetError):
        statuses(gateway)
    assert server.stats().requests == gateway.bill.sent == ROWS
