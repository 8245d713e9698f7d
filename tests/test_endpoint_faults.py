"""Every fault of the local endpoint: its effect on a real client, and which requests get it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

from tasks.local.endpoint import Endpoint, serve
from tasks.local.endpoint_config import EndpointConfig
from tasks.local.faults import KINDS
from tests.endpoint_requests import (
    API_VERSION,
    CHAT,
    LEAD,
    MESSAGES,
    PROSE,
    azure_client,
    complete,
    complete_once,
    finish,
    post,
)

ERRORS: dict[str, tuple[type[openai.APIError], int | None, str | None]] = {
    "rate-limit": (openai.RateLimitError, 429, "429"),
    "rate-limit-long": (openai.RateLimitError, 429, "429"),
    "quota": (openai.RateLimitError, 429, "insufficient_quota"),
    "unauthorized": (openai.AuthenticationError, 401, "401"),
    "forbidden": (openai.PermissionDeniedError, 403, "PermissionDenied"),
    "not-found": (openai.NotFoundError, 404, "DeploymentNotFound"),
    "content-filter": (openai.BadRequestError, 400, "content_filter"),
    "too-long": (openai.BadRequestError, 400, "context_length_exceeded"),
    "bad-request": (openai.BadRequestError, 400, None),
    "quoting": (openai.BadRequestError, 400, None),
    "unsupported-parameter": (openai.BadRequestError, 400, "unsupported_parameter"),
    "timeout-408": (openai.APIStatusError, 408, "Timeout"),
    "conflict-409": (openai.ConflictError, 409, "Conflict"),
    "server-error": (openai.InternalServerError, 500, "InternalServerError"),
    "unavailable": (openai.InternalServerError, 503, "ServiceUnavailable"),
    "redirect": (openai.APIStatusError, 307, None),
    "reset": (openai.APIConnectionError, None, None),
    "hang": (openai.APITimeoutError, None, None),
}


REPLIES: dict[str, Callable[[Any], bool]] = {
    "filtered-reply": lambda reply: finish(reply) == ("content_filter", None),
    "length": lambda reply: finish(reply)[0] == "length" and PROSE.startswith(finish(reply)[1]),
    "empty": lambda reply: finish(reply) == ("stop", ""),
    "null-content": lambda reply: finish(reply) == ("stop", None),
    "refusal": lambda reply: finish(reply) == ("stop", None) and bool(reply.choices[0].message.refusal),
    "no-choices": lambda reply: reply.choices == [],
    "html": lambda reply: isinstance(reply, str) and reply.startswith("<html>"),
    "lone-surrogate": lambda reply: finish(reply)[1].startswith("\ud800Dr. Who"),
    "none-usage": lambda reply: reply.usage is None and finish(reply) == ("stop", LEAD),
}


def test_every_kind_of_fault_is_tested_here() -> None:
    assert set(ERRORS) | set(REPLIES) | {"bad-json", "drip"} == KINDS


@pytest.mark.parametrize("kind", sorted(ERRORS))
def test_an_error_fault_raises_the_client_s_exception_for_azure_s_error(kind: str) -> None:
    wanted, status, code = ERRORS[kind]
    with serve(EndpointConfig(faults={"broken": kind})) as endpoint:

        async def run() -> None:
            async with azure_client(endpoint, timeout=0.3 if kind == "hang" else 5.0) as client:
                await complete(client, PROSE, "broken")

        with pytest.raises(wanted) as raised:
            asyncio.run(run())
    assert type(raised.value) is wanted
    if isinstance(raised.value, openai.APIStatusError):
        assert (raised.value.status_code, raised.value.code) == (status, code)
    stats = endpoint.stats()
    assert (stats.requests, stats.in_flight) == (1, 0)
    assert stats.requests_by_status == ({status: 1} if status else {})
    assert stats.abandoned == (0 if status else 1)
    assert stats.paid == (1 if kind == "content-filter" else 0)


@pytest.mark.parametrize("kind", sorted(REPLIES))
def test_an_unusual_reply_reaches_the_client_unchanged(kind: str) -> None:
    with serve(EndpointConfig(faults={"odd": kind})) as endpoint:
        assert REPLIES[kind](complete_once(endpoint, PROSE, "odd"))
        assert endpoint.stats().requests_by_status == {200: 1}


def test_truncated_json_is_a_decode_error(recording: Endpoint) -> None:
    with pytest.raises(json.JSONDecodeError):
        complete_once(recording, f"[[fault:bad-json]] {PROSE}")


def test_a_dripping_reply_sends_its_headers_at_once_and_its_body_too_slowly(recording: Endpoint) -> None:
    async def run() -> int:
        async with httpx.AsyncClient(trust_env=False) as client:
            body = {"messages": [{"role": "user", "content": "[[fault:drip]]"}]}
            headers = {"api-key": "k"}
            async with client.stream("POST", recording.url + CHAT, json=body, headers=headers) as reply:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(reply.aread(), 0.15)
                return reply.status_code

    assert asyncio.run(run()) == 200


def test_a_followed_redirect_is_counted(recording: Endpoint) -> None:
    async def run() -> None:
        async with openai.AsyncAzureOpenAI(
            azure_endpoint=recording.url, api_version=API_VERSION, api_key="k", max_retries=0
        ) as client:
            await complete(client, "[[fault:redirect]]")

    with pytest.raises(openai.NotFoundError):
        asyncio.run(run())
    assert recording.stats().redirects_followed == 1


def test_a_content_filter_error_has_azure_s_inner_error(recording: Endpoint) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        complete_once(recording, "[[fault:content-filter]]")
    body = raised.value.body
    assert isinstance(body, dict)
    assert body["innererror"]["code"] == "ResponsibleAIPolicyViolation"
    assert body["innererror"]["content_filter_result"]["violence"]["filtered"] is True


@pytest.mark.parametrize(
    ("marker", "seconds", "milliseconds"),
    [
        ("rate-limit", "1", "1000"),
        ("rate-limit:retry-after-ms=300", "1", "300"),
        ("rate-limit-long", "3600", "3600000"),
    ],
)
def test_a_rate_limit_error_has_a_retry_after(
    recording: Endpoint, marker: str, seconds: str, milliseconds: str
) -> None:
    with pytest.raises(openai.RateLimitError) as raised:
        complete_once(recording, f"[[fault:{marker}]]")
    headers = raised.value.response.headers
    assert (headers["retry-after"], headers["retry-after-ms"]) == (seconds, milliseconds)
    assert f"Please retry after {seconds} seconds" in raised.value.message
    assert f"API version {API_VERSION}" in raised.value.message


def test_a_marker_with_times_fails_that_often_per_text_and_then_succeeds(recording: Endpoint) -> None:
    texts = [f"[[fault:server-error:times=2]] Row {number}." for number in range(2)]

    async def run() -> list[type[object]]:
        async with azure_client(recording) as client:
            results = [
                await asyncio.gather(complete(client, text), return_exceptions=True)
                for text in texts
                for _ in range(3)
            ]
        return [type(result) for [result] in results]

    seen = [kind.__name__ for kind in asyncio.run(run())]
    assert seen == ["InternalServerError", "InternalServerError", "ChatCompletion"] * 2
    assert [recording.requests_for(text) for text in texts] == [3, 3]
    assert [recording.paid_for(text) for text in texts] == [1, 1]


def test_a_random_share_of_requests_fails_the_same_way_for_the_same_seed() -> None:
    def failures() -> int:
        with serve(EndpointConfig(fault_rate=0.3, fault_kind="unavailable")) as endpoint:
            statuses = [post(endpoint, CHAT, MESSAGES, {"api-key": "k"})[0] for _ in range(100)]
        assert set(statuses) == {200, 503}
        return statuses.count(503)

    first = failures()
    assert 15 <= first <= 45
    assert failures() == first
