import asyncio
import json
from dataclasses import replace
from typing import Protocol

import pytest
from pydantic import SecretStr

from tasks.core.errors import DeploymentError, RateLimitError, RequestError
from tasks.core.llm.chat_model import Answer
from tasks.core.llm.client import open_model
from tasks.core.model import Outcome, Status
from tasks.core.prompt import Prompt, Request
from tasks.core.settings import Settings
from tests.conftest import Serve
from tests.endpoint_requests import AWKWARD, REQUEST
from tests.textmodels import row_of


class Ask(Protocol):
    def __call__(self, text: str, request: Request = REQUEST, *, timeout_s: float = 20.0) -> Outcome: ...


@pytest.fixture
def ask() -> Ask:
    """One request to the endpoint the environment names."""

    def send(text: str, request: Request = REQUEST, *, timeout_s: float = 20.0) -> Outcome:
        return asyncio.run(complete(text, request, timeout_s)).outcome

    return send


async def complete(text: str, request: Request = REQUEST, timeout_s: float = 20.0) -> Answer:
    settings = Settings.from_environment()
    async with open_model(
        settings.endpoint,
        request,
        settings.azure_openai_api_key,
        max_connections=2,
        timeout_s=timeout_s,
    ) as model:
        return await model.complete(row_of(text, request))


@pytest.mark.parametrize(
    ("kind", "status", "error"),
    [
        ("content-filter", Status.FILTERED, "the prompt was stopped"),
        ("filtered-reply", Status.FILTERED, "the reply was stopped"),
        ("too-long", Status.TOO_LONG, "longer than the model accepts"),
        ("bad-request", Status.FAILED, "HTTP 400"),
        ("length", Status.TRUNCATED, "max_output_tokens"),
        ("refusal", Status.REFUSED, "the model refused"),
        ("empty", Status.FAILED, "reply is empty"),
        ("null-content", Status.FAILED, "reply is empty"),
    ],
)
def test_a_reply_that_concerns_one_row_is_its_outcome(
    endpoint: Serve, ask: Ask, kind: str, status: Status, error: str
) -> None:
    server = endpoint()
    outcome = ask(f"A text. [[fault:{kind}]]")
    assert outcome.status is status
    assert error in (outcome.error or "")
    assert outcome.text != "None"
    assert server.stats().requests == 1


@pytest.mark.parametrize(
    ("kind", "lost"),
    [
        ("server-error", False),
        ("unavailable", False),
        ("timeout-408", False),
        ("conflict-409", False),
        ("reset", True),
        ("no-choices", True),
        ("bad-json", True),
        ("html", True),
    ],
)
def test_a_failure_that_a_retry_may_fix_is_a_request_error_that_states_if_it_may_be_billed(
    endpoint: Serve,
    ask: Ask,
    kind: str,
    lost: bool,  # noqa: FBT001 - parametrized
) -> None:
    server = endpoint()
    with pytest.raises(RequestError) as caught:
        ask(f"A secret text. [[fault:{kind}]]")
    assert caught.value.possibly_paid is lost
    assert "secret" not in str(caught.value)
    assert server.stats().requests == 1


@pytest.mark.parametrize(
    ("kind", "fix"),
    [
        ("unauthorized", "AZURE_OPENAI_API_KEY"),
        ("forbidden", "Cognitive Services OpenAI User"),
        ("not-found", "AZURE_OPENAI_DEPLOYMENT"),
        ("quota", "quota"),
        ("unsupported-parameter", "AZURE_OPENAI_MODEL"),
        ("redirect", "redirects elsewhere"),
    ],
)
def test_an_error_that_concerns_every_row_states_how_to_fix_it(
    endpoint: Serve, ask: Ask, kind: str, fix: str
) -> None:
    server = endpoint()
    with pytest.raises(DeploymentError, match=fix):
        ask(f"A text. [[fault:{kind}]]")
    assert server.stats().requests == 1
    assert server.stats().redirects_followed == 0


@pytest.mark.parametrize(
    ("kind", "wait_s"), [("rate-limit:retry-after-ms=300", 0.3), ("rate-limit-long", 3600)]
)
def test_the_error_of_a_429_holds_the_requested_wait(
    endpoint: Serve, ask: Ask, kind: str, wait_s: float
) -> None:
    endpoint()
    with pytest.raises(RateLimitError) as caught:
        ask(f"A text. [[fault:{kind}]]")
    assert caught.value.retry_after_s == pytest.approx(wait_s)


def test_replies_and_errors_hold_the_parsed_rate_limit_headers(endpoint: Serve) -> None:
    endpoint(requests_per_minute=600, tokens_per_minute=60_000, bucket_window_s=60.0)
    answered = asyncio.run(complete("A text.")).rate_limits
    with pytest.raises(RateLimitError) as refused:
        asyncio.run(complete("A text. [[fault:rate-limit]]"))
    for limits in (answered, refused.value.rate_limits):
        assert limits
        assert (limits.requests_per_s, limits.tokens_per_s) == (10.0, 1000.0)
    # One request was admitted, and charged as many tokens as estimated here, up to rounding.
    assert answered
    assert answered.requests_left == 599
    charged = REQUEST.quota_tokens(row_of("A text.", REQUEST))
    assert answered.tokens_left == pytest.approx(60_000 - charged, abs=1)


@pytest.mark.parametrize("kind", ["html", "server-error", "content-filter"])
def test_the_rate_limit_headers_of_every_kind_of_reply_are_parsed(endpoint: Serve, kind: str) -> None:
    endpoint(requests_per_minute=600)
    try:
        limits = asyncio.run(complete(f"A text. [[fault:{kind}]]")).rate_limits
    except RequestError as error:
        limits = error.rate_limits
    assert limits
    assert limits.requests_per_s == 10.0


def test_a_hanging_request_may_be_billed_and_a_failed_connection_is_not(
    endpoint: Serve, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint()
    with pytest.raises(RequestError) as hung:
        ask("A text. [[fault:hang]]", timeout_s=0.3)
    assert hung.value.possibly_paid
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(RequestError) as dead:
        ask("A text.")
    assert not dead.value.possibly_paid


def test_lone_surrogates_in_a_reply_become_replacement_characters(endpoint: Serve, ask: Ask) -> None:
    endpoint()
    outcome = ask("A text. [[fault:lone-surrogate]]")
    assert outcome.status is Status.OK
    assert "\N{REPLACEMENT CHARACTER}" in (outcome.text or "")
    (outcome.text or "").encode()


def test_a_reply_without_usage_has_unknown_tokens(endpoint: Serve, ask: Ask) -> None:
    endpoint()
    outcome = ask("A text. [[fault:none-usage]]")
    assert (outcome.status, outcome.prompt_tokens, outcome.completion_tokens) == (Status.OK, None, None)


@pytest.mark.parametrize("text", AWKWARD, ids=["braces", "double", "json", "nul", "emoji", "spaces", "1MB"])
@pytest.mark.parametrize(
    "prompt", ["Be {brief} and {{braced}}.", "Shorten: <{text}> {please}"], ids=["system", "inline"]
)
def test_the_endpoint_receives_exactly_the_rows_text_inside_the_instruction(
    endpoint: Serve, ask: Ask, text: str, prompt: str
) -> None:
    server = endpoint(record_bodies=True)
    ask(text, replace(REQUEST, prompt=Prompt(prompt)))
    [recorded] = server.bodies
    sent = [(message["role"], message["content"]) for message in recorded.body["messages"]]
    if "{text}" in prompt:
        assert sent == [("user", f"Shorten: <{text}> {{please}}")]
    else:
        assert sent == [("system", prompt), ("user", text)]


def test_a_request_contains_temperature_and_limit_under_the_names_of_its_model(
    endpoint: Serve, ask: Ask
) -> None:
    server = endpoint(record_bodies=True)
    ask("A text.")
    ask("A text.", replace(REQUEST, model="o3-mini"))
    plain, reasoning = (recorded.body for recorded in server.bodies)
    assert (plain["temperature"], plain["max_tokens"], plain["model"]) == (0.0, 256, "gpt-4o-mini")
    assert "max_tokens" not in reasoning
    assert reasoning["max_completion_tokens"] == 256


def test_the_key_of_another_provider_in_the_environment_is_never_sent(
    endpoint: Serve, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = endpoint(record_bodies=True, api_key="test-key")
    for name in ("OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "sk-other")
    assert ask("A text.").status is Status.OK
    assert "sk-other" not in json.dumps([[*map(str, r.headers.items())] for r in server.bodies])


def test_a_key_is_never_shown_by_settings() -> None:
    settings = Settings(
        azure_openai_endpoint="https://x.openai.azure.com",
        azure_openai_deployment="d",
        azure_openai_api_key=SecretStr("very-secret"),
    )
    assert "very-secret" not in f"{settings!r} {settings} {settings.model_dump_json()}"
