"""Requests that carry Entra ID's token, and what the bill says of those whose token was rejected."""

from collections.abc import Iterable
from typing import Any

import pytest

from tasks.core.calls.budget import Budget
from tasks.core.calls.llm import open_model
from tasks.core.errors import BudgetError, DeploymentError
from tasks.core.model import Status
from tasks.core.ratelimit.limiter import Limiter
from tasks.core.rows.gateway import Gateway
from tasks.core.rows.summarizer import RetryPolicy
from tasks.core.settings import Settings
from tests.asking import REQUEST
from tests.conftest import Serve

ROWS, WINDOW = 30, 8
TEXTS = [f"Text {row}." for row in range(ROWS)]


class CountingCredential:
    """Hands out token-1, token-2, ..."""

    def __init__(self) -> None:
        self.fetched = 0

    def get_token(self, *scopes: str) -> Any:
        assert scopes == ("https://cognitiveservices.azure.com/.default",)
        self.fetched += 1
        return type("AccessToken", (), {"token": f"token-{self.fetched}", "expires_on": 4_000_000_000})()


def gateway_of(credential: CountingCredential, budget: Budget | None = None) -> Gateway:
    settings = Settings.from_environment().model_copy(update={"azure_openai_api_key": None})
    return Gateway(
        lambda measured: open_model(
            *(settings, REQUEST),
            max_connections=WINDOW,
            timeout_s=20,
            credential=lambda: credential,
            measured=measured,
        ),
        lambda: Limiter(WINDOW),
        RetryPolicy(),
        budget,
    )


def statuses(gateway: Gateway, texts: Iterable[str] = TEXTS) -> set[Status]:
    with gateway:
        return {outcome.status for outcome in gateway.begin(texts)()}


def test_a_rejected_token_is_renewed_once_and_every_request_that_carried_it_is_on_the_bill(
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


def test_a_token_that_stays_rejected_stops_within_the_window_with_the_cure(
    endpoint: Serve,
) -> None:
    server, gateway = endpoint(api_key="never"), gateway_of(CountingCredential())
    with pytest.raises(DeploymentError, match="not accepted"):
        statuses(gateway)
    requests = server.stats().requests
    # Each that was in flight, and once more with the new token.
    assert requests <= 2 * WINDOW
    assert (gateway.bill.sent, gateway.bill.refused) == (requests, requests)


def test_a_request_repeated_with_a_new_token_is_paid_from_the_budget_too(endpoint: Serve) -> None:
    server = endpoint(api_key="token-2")
    gateway = gateway_of(CountingCredential(), Budget(max_requests=ROWS))
    with pytest.raises(BudgetError):
        statuses(gateway)
    assert server.stats().requests == gateway.bill.sent == ROWS
