"""The local endpoint: the protocol through the real clients, every fault, quotas, counters, starting it."""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage
from llama_index.llms.azure_openai import AzureOpenAI

from tasks.local.buckets import Bucket, Quota
from tasks.local.config import EndpointConfig, parse_flags, to_flags
from tasks.local.endpoint import Endpoint, main, serve
from tasks.local.extract import CHARACTERS_MAX, WORDS_MAX, extract
from tasks.local.faults import KINDS
from tasks.local.script import FaultSpec, fault_for, markers
from tasks.local.spawn import ROOT, spawn

API_VERSION = "2024-10-21"
PROSE = "Dr. Who met J. R. Smith at 3.14 p.m. in Zürich. They spoke of e.g. tea. A third sentence ends it."
LEAD = "Dr. Who met J. R. Smith at 3.14 p.m. in Zürich. They spoke of e.g. tea."


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """A plain endpoint that records what it is sent."""
    with serve(EndpointConfig(record_bodies=True)) as handle:
        yield handle


@asynccontextmanager
async def azure(endpoint: Endpoint, **settings: Any) -> AsyncIterator[openai.AsyncAzureOpenAI]:
    """The real client, built and closed in the running loop; it retries nothing and follows no redirect."""
    options = {"api_key": "some-key", "timeout": 5.0, **settings}
    async with (
        httpx.AsyncClient(follow_redirects=False, trust_env=False) as transport,
        openai.AsyncAzureOpenAI(
            azure_endpoint=endpoint.url,
            api_version=API_VERSION,
            max_retries=0,
            http_client=transport,
            **options,
        ) as client,
    ):
        yield client


async def ask(client: openai.AsyncAzureOpenAI, text: str, deployment: str = "gpt", **options: Any) -> Any:
    """One completion; typed loosely because faults break the types."""
    return await client.chat.completions.create(
        model=deployment, messages=[{"role": "user", "content": text}], **options
    )


def ask_once(
    endpoint: Endpoint, text: str, deployment: str = "gpt", *, limits: dict[str, int] | None = None
) -> Any:
    """One completion with a client of its own."""

    async def run() -> Any:
        async with azure(endpoint) as client:
            return await ask(client, text, deployment, **(limits or {}))

    return asyncio.run(run())


def post(endpoint: Endpoint, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
    """A plain request: status and parsed reply."""
    address = urlsplit(endpoint.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=5)
    try:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


CHAT = f"/openai/deployments/gpt/chat/completions?api-version={API_VERSION}"
MESSAGES = json.dumps({"messages": [{"role": "user", "content": PROSE}]}).encode()


def test_llama_index_gets_the_extract_and_the_usage(endpoint: Endpoint) -> None:
    async def run() -> Any:
        async with httpx.AsyncClient(trust_env=False) as transport:
            llm = AzureOpenAI(
                model="gpt-4o-mini",
                engine="summaries",
                api_key="some-key",
                azure_endpoint=endpoint.url,
                api_version=API_VERSION,
                max_retries=0,
                temperature=0.0,
                max_tokens=99,
                async_http_client=transport,
            )
            return await llm.achat(
                [ChatMessage(role="system", content="Sum up."), ChatMessage(content=PROSE)]
            )

    reply = asyncio.run(run())
    assert reply.message.content == LEAD
    usage = reply.raw.usage
    assert usage.prompt_tokens == -(-len("Sum up.") // 4) + -(-len(PROSE.encode()) // 4)
    assert usage.completion_tokens == -(-len(LEAD.encode()) // 4)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens_details.cached_tokens == 0
    assert reply.raw.model == "gpt-4o-mini-2024-07-18"
    [recorded] = endpoint.bodies
    assert recorded.deployment == "summaries"
    assert recorded.api_version == API_VERSION
    assert recorded.headers["api-key"] == "***"
    assert recorded.body["max_tokens"] == 99
    assert recorded.body["temperature"] == 0.0


def test_a_reply_has_every_part_azure_sends(endpoint: Endpoint) -> None:
    reply = ask_once(endpoint, PROSE).model_dump()
    assert reply["id"].startswith("chatcmpl-")
    assert reply["object"] == "chat.completion"
    assert reply["prompt_filter_results"][0]["content_filter_results"]["hate"]["filtered"] is False
    [choice] = reply["choices"]
    assert choice["index"] == 0
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["refusal"] is None
    assert choice["content_filter_results"]["violence"]["severity"] == "safe"


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_a_reply_longer_than_its_limit_is_cut_after_a_word(endpoint: Endpoint, limit: str) -> None:
    reply = ask_once(endpoint, PROSE, limits={limit: 3})
    assert reply.choices[0].finish_reason == "length"
    assert reply.choices[0].message.content == "Dr. Who met"
    assert reply.usage.completion_tokens <= 3


def test_the_last_user_message_is_the_row_and_its_text_parts_are_joined(endpoint: Endpoint) -> None:
    parts = [{"type": "text", "text": "One two. "}, {"type": "text", "text": "Three four."}]
    messages = [{"role": "user", "content": "Older."}, {"role": "user", "content": parts}]
    status, reply = post(endpoint, CHAT, json.dumps({"messages": messages}).encode(), {"api-key": "k"})
    assert status == 200
    assert reply["choices"][0]["message"]["content"] == "One two."
    assert endpoint.requests_for("One two. Three four.") == 1
    assert endpoint.requests_for("Older.") == 0


def test_a_bearer_token_is_as_good_as_a_key_and_nothing_is_not(endpoint: Endpoint) -> None:
    assert post(endpoint, CHAT, MESSAGES, {"Authorization": "Bearer token"})[0] == 200
    assert post(endpoint, CHAT, MESSAGES, {"api-key": "some-key"})[0] == 200
    status, reply = post(endpoint, CHAT, MESSAGES, {})
    assert (status, reply["error"]["code"]) == (401, "401")


def test_a_wrong_key_is_refused_when_one_is_expected() -> None:
    with serve(EndpointConfig(api_key="right")) as endpoint:
        assert post(endpoint, CHAT, MESSAGES, {"api-key": "right"})[0] == 200
        assert post(endpoint, CHAT, MESSAGES, {"Authorization": "Bearer right"})[0] == 200
        with pytest.raises(openai.AuthenticationError):
            ask_once(endpoint, PROSE)
        assert endpoint.stats().requests_by_status == {200: 2, 401: 1}


@pytest.mark.parametrize(
    "path", [CHAT.partition("?")[0], "/openai/deployments//chat/completions", "/elsewhere"]
)
def test_a_path_azure_does_not_know_is_not_found(endpoint: Endpoint, path: str) -> None:
    status, reply = post(endpoint, path, MESSAGES, {"api-key": "k"})
    assert (status, reply["error"]["message"]) == (404, "Resource not found")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"messages": 3}',
        b'{"messages": [{"role": "system", "content": "x"}]}',
        b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 0}',
        b'{"messages": [{"role": "user", "content": "x"}], "stream": true}',
        b'{"messages": [{"role": "user", "content": "[[fault:no-such-kind]]"}]}',
    ],
)
def test_a_request_that_makes_no_sense_is_a_bad_request(endpoint: Endpoint, body: bytes) -> None:
    status, reply = post(endpoint, CHAT, body, {"api-key": "k"})
    assert status == 400
    assert reply["error"]["type"] == "invalid_request_error"
    assert reply["error"]["message"]


def test_a_body_of_64_megabytes_is_taken(endpoint: Endpoint) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "word " * (13 * 2**20)}]}).encode()
    assert len(body) > 64 * 2**20
    status, reply = post(endpoint, CHAT, body, {"api-key": "k"})
    assert status == 200
    assert len(reply["choices"][0]["message"]["content"].split()) == WORDS_MAX


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


def finish(reply: Any) -> tuple[str, Any]:
    """Finish reason and content of a reply's one choice."""
    [choice] = reply.choices
    return choice.finish_reason, choice.message.content


def test_every_kind_of_fault_is_tested_here() -> None:
    assert set(ERRORS) | set(REPLIES) | {"bad-json", "drip"} == KINDS


@pytest.mark.parametrize("kind", sorted(ERRORS))
def test_a_fault_of_the_deployment_raises_what_azure_makes_the_client_raise(kind: str) -> None:
    wanted, status, code = ERRORS[kind]
    with serve(EndpointConfig(faults={"broken": kind})) as endpoint:

        async def run() -> None:
            async with azure(endpoint, timeout=0.3 if kind == "hang" else 5.0) as client:
                await ask(client, PROSE, "broken")

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
def test_an_odd_reply_reaches_the_client_as_it_is(kind: str) -> None:
    with serve(EndpointConfig(faults={"odd": kind})) as endpoint:
        assert REPLIES[kind](ask_once(endpoint, PROSE, "odd"))
        assert endpoint.stats().requests_by_status == {200: 1}


def test_truncated_json_is_a_decode_error(endpoint: Endpoint) -> None:
    with pytest.raises(json.JSONDecodeError):
        ask_once(endpoint, f"[[fault:bad-json]] {PROSE}")


def test_a_dripping_reply_sends_its_headers_at_once_and_outlasts_a_deadline(endpoint: Endpoint) -> None:
    async def run() -> int:
        async with httpx.AsyncClient(trust_env=False) as client:
            body = {"messages": [{"role": "user", "content": "[[fault:drip]]"}]}
            headers = {"api-key": "k"}
            async with client.stream("POST", endpoint.url + CHAT, json=body, headers=headers) as reply:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(reply.aread(), 0.15)
                return reply.status_code

    assert asyncio.run(run()) == 200


def test_a_followed_redirect_is_counted(endpoint: Endpoint) -> None:
    async def run() -> None:
        async with openai.AsyncAzureOpenAI(
            azure_endpoint=endpoint.url, api_version=API_VERSION, api_key="k", max_retries=0
        ) as client:
            await ask(client, "[[fault:redirect]]")

    with pytest.raises(openai.NotFoundError):
        asyncio.run(run())
    assert endpoint.stats().redirects_followed == 1


def test_a_content_filter_error_carries_azures_inner_error(endpoint: Endpoint) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        ask_once(endpoint, "[[fault:content-filter]]")
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
def test_a_rate_limit_tells_how_long_to_wait(
    endpoint: Endpoint, marker: str, seconds: str, milliseconds: str
) -> None:
    with pytest.raises(openai.RateLimitError) as raised:
        ask_once(endpoint, f"[[fault:{marker}]]")
    headers = raised.value.response.headers
    assert (headers["retry-after"], headers["retry-after-ms"]) == (seconds, milliseconds)
    assert f"Please retry after {seconds} seconds" in raised.value.message
    assert f"API version {API_VERSION}" in raised.value.message


def test_a_marker_with_times_fails_that_often_per_text_and_then_succeeds(endpoint: Endpoint) -> None:
    texts = [f"[[fault:server-error:times=2]] Row {number}." for number in range(2)]

    async def run() -> list[type[object]]:
        async with azure(endpoint) as client:
            results = [
                await asyncio.gather(ask(client, text), return_exceptions=True)
                for text in texts
                for _ in range(3)
            ]
        return [type(result) for [result] in results]

    seen = [kind.__name__ for kind in asyncio.run(run())]
    assert seen == ["InternalServerError", "InternalServerError", "ChatCompletion"] * 2
    assert [endpoint.requests_for(text) for text in texts] == [3, 3]
    assert [endpoint.paid_for(text) for text in texts] == [1, 1]


def test_a_random_share_of_requests_fails_the_same_way_for_the_same_seed() -> None:
    def failures() -> int:
        with serve(EndpointConfig(fault_rate=0.3, fault_kind="unavailable")) as endpoint:
            statuses = [post(endpoint, CHAT, MESSAGES, {"api-key": "k"})[0] for _ in range(100)]
        assert set(statuses) == {200, 503}
        return statuses.count(503)

    first = failures()
    assert 15 <= first <= 45
    assert failures() == first


def test_every_reply_carries_the_rate_limit_headers() -> None:
    config = EndpointConfig(requests_per_minute=600, tokens_per_minute=60_000, bucket_window_s=60)
    with serve(config) as endpoint:

        async def run() -> Any:
            async with azure(endpoint) as client:
                return await client.chat.completions.with_raw_response.create(
                    model="gpt", messages=[{"role": "user", "content": "x" * 400}], max_tokens=900
                )

        headers = asyncio.run(run()).headers
    assert headers["x-ratelimit-limit-requests"] == "600"
    assert headers["x-ratelimit-remaining-requests"] == "599"
    assert headers["x-ratelimit-limit-tokens"] == "60000"
    assert headers["x-ratelimit-remaining-tokens"] == "59000"
    assert headers["x-request-id"] == headers["apim-request-id"]


def test_a_used_up_quota_is_a_429_until_it_is_raised() -> None:
    with serve(EndpointConfig(requests_per_minute=6, bucket_window_s=20, retry_after_min_ms=10)) as endpoint:
        ask_once(endpoint, PROSE)
        ask_once(endpoint, PROSE)
        with pytest.raises(openai.RateLimitError) as raised:
            ask_once(endpoint, PROSE)
        assert 8_000 < int(raised.value.response.headers["retry-after-ms"]) <= 10_000
        endpoint.configure(requests_per_minute=6e6)
        ask_once(endpoint, PROSE)
        assert endpoint.stats().requests_by_status == {200: 3, 429: 1}
        assert endpoint.paid_for(PROSE) == 3


class FakeClock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        """Start at zero."""
        self.now_s = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now_s


def test_a_bucket_refills_evenly_and_holds_one_window() -> None:
    clock = FakeClock()
    bucket = Bucket(per_minute=60, window_s=10, clock=clock)
    bucket.take(10)
    assert bucket.wait_s(1) == pytest.approx(1)
    clock.now_s = 4
    assert bucket.wait_s(4) == 0
    assert bucket.remaining == 4
    clock.now_s = 1000
    assert bucket.wait_s(10) == 0
    assert bucket.remaining == 10


def test_a_request_larger_than_the_bucket_passes_when_it_is_full_and_leaves_a_debt() -> None:
    clock = FakeClock()
    bucket = Bucket(per_minute=60, window_s=10, clock=clock)
    assert bucket.wait_s(25) == 0
    bucket.take(25)
    assert bucket.remaining == 0
    assert bucket.wait_s(1) == pytest.approx(16)


def test_a_resized_bucket_keeps_what_fits() -> None:
    bucket = Bucket(per_minute=60, window_s=10, clock=FakeClock())
    bucket.resize(per_minute=12, window_s=10)
    assert (bucket.limit, bucket.remaining) == (12, 2)


def test_a_request_refused_by_one_bucket_is_not_charged_to_the_other() -> None:
    quota = Quota(requests_per_minute=60, tokens_per_minute=60, window_s=60)
    assert quota.admit(60) == 0
    assert quota.admit(60) > 0
    assert quota.headers()["x-ratelimit-remaining-requests"] == "59"


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 30)), max_size=60))
def test_no_more_than_rate_times_window_ever_passes(arrivals: list[tuple[float, int]]) -> None:
    clock = FakeClock()
    bucket = Bucket(per_minute=60, window_s=30, clock=clock)
    passed = 0
    for pause_s, amount in arrivals:
        clock.now_s += pause_s
        if bucket.wait_s(amount) == 0:
            bucket.take(amount)
            passed += amount
    assert passed <= clock.now_s + 30 + 1e-6


def test_latency_holds_requests_in_flight_and_the_peak_is_counted() -> None:
    with serve(EndpointConfig(latency_ms=100, sigma=0.1)) as endpoint:

        async def run() -> None:
            async with azure(endpoint) as client:
                await asyncio.gather(*(ask(client, f"Row {number}.") for number in range(12)))

        asyncio.run(run())
    stats = endpoint.stats()
    assert (stats.peak_in_flight, stats.in_flight) == (12, 0)
    assert (stats.rows, stats.row_requests_max, stats.row_paid_max) == (12, 1, 1)


def test_a_block_left_with_a_request_in_flight_ends_at_once_and_cuts_it_off() -> None:
    with serve() as endpoint:
        address = urlsplit(endpoint.url)
        body = json.dumps({"messages": [{"role": "user", "content": "[[fault:hang]]"}]})
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=5)
        connection.request("POST", CHAT, body, {"api-key": "k"})
        while endpoint.stats().in_flight == 0:
            pass
    with pytest.raises(ConnectionError):
        connection.getresponse()
    connection.close()
    stats = endpoint.stats()
    assert (stats.requests, stats.abandoned, stats.in_flight) == (1, 1, 0)


def test_reset_forgets_rows_bodies_and_counts(endpoint: Endpoint) -> None:
    ask_once(endpoint, PROSE)
    endpoint.reset()
    assert endpoint.stats().requests == endpoint.requests_for(PROSE) == len(endpoint.bodies) == 0


def test_a_text_with_a_lone_surrogate_is_answered_and_counted(endpoint: Endpoint) -> None:
    body = b'{"messages": [{"role": "user", "content": "\\ud800 is half a character."}]}'
    assert post(endpoint, CHAT, body, {"api-key": "k"})[0] == 200
    assert endpoint.requests_for("\ud800 is half a character.") == 1


@pytest.mark.parametrize("changes", [{"port": 1}, {"latency_ms": -1}, {"no_such": 1}, {"faults": {"x": "y"}}])
def test_a_setting_that_cannot_be_is_refused_the_same_way_in_both_handles(
    endpoint: Endpoint, changes: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"port|latency_ms|no_such|unknown fault"):
        endpoint.configure(**changes)
    status, reply = post(endpoint, "/configure", json.dumps(changes).encode(), {})
    assert status == 400
    assert reply["error"]["message"]


@pytest.mark.parametrize("body", [b"null", b"[1]", b"{"])
def test_settings_that_are_no_object_are_refused(endpoint: Endpoint, body: bytes) -> None:
    assert post(endpoint, "/configure", body, {})[0] == 400


def test_a_port_that_is_taken_is_an_error_and_not_a_hang(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"), serve(EndpointConfig(port=port)):
            pass
        with pytest.raises(SystemExit) as stop:
            main(["--port", str(port)])
    assert stop.value.code == 2
    assert "in use" in capsys.readouterr().err


def test_a_spawned_endpoint_answers_counts_and_can_be_changed() -> None:
    config = EndpointConfig(faults={"busy": "rate-limit:times=1"}, record_bodies=True, model="gpt-x")
    with spawn(config) as endpoint:
        assert ask_once(endpoint, PROSE).model == "gpt-x"
        with pytest.raises(openai.RateLimitError):
            ask_once(endpoint, PROSE, "busy")
        assert ask_once(endpoint, PROSE, "busy").choices[0].message.content == LEAD
        assert endpoint.stats().requests_by_status == {200: 2, 429: 1}
        assert (endpoint.requests_for(PROSE), endpoint.paid_for(PROSE)) == (3, 2)
        assert [recorded.deployment for recorded in endpoint.bodies] == ["gpt", "busy", "busy"]
        endpoint.configure(model="gpt-y")
        assert ask_once(endpoint, PROSE).model == "gpt-y"
        with pytest.raises(ValueError, match="no_such"):
            endpoint.configure(no_such=1)
        endpoint.reset()
        assert endpoint.stats().requests == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_alone_it_stops_quietly_on_a_signal_and_prints_what_it_counted(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "tasks.local.endpoint"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("listening on http://127.0.0.1:")
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (0, "")
    assert out.startswith("0 requests for 0 rows")


def test_help_names_every_setting_and_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0
    assert all(kind in shown for kind in KINDS)
    assert "--tokens-per-minute" in shown


configs = st.builds(
    EndpointConfig,
    port=st.integers(0, 65535),
    latency_ms=st.floats(0, 1e6),
    sigma=st.floats(0, 3),
    seed=st.integers(),
    requests_per_minute=st.none() | st.floats(0.1, 1e9),
    tokens_per_minute=st.none() | st.floats(0.1, 1e9),
    api_key=st.none() | st.text(min_size=1),
    model=st.text(min_size=1),
    faults=st.dictionaries(st.from_regex(r"[\w.-]{1,20}", fullmatch=True), st.sampled_from(sorted(KINDS))),
    fault_rate=st.floats(0, 1),
    record_bodies=st.booleans(),
)


@given(configs)
def test_flags_say_exactly_what_the_config_says(config: EndpointConfig) -> None:
    assert parse_flags(to_flags(config)) == config


@pytest.mark.parametrize(
    "spec", ["no-such", "hang:times=x", "hang:times=-1", "hang:colour=1", "hang:times", ""]
)
def test_a_fault_nobody_knows_is_refused_before_a_socket_opens(spec: str) -> None:
    with pytest.raises(ValueError, match="fault"):
        EndpointConfig(faults={"gpt": spec})


def test_markers_of_one_text_play_one_after_the_other() -> None:
    specs = markers("[[fault:rate-limit:times=2:retry-after-ms=5]] and [[fault:reset:times=1]] then prose")
    played = [fault_for(specs, number) for number in range(1, 5)]
    limited = FaultSpec("rate-limit", times=2, retry_after_ms=5)
    assert played == [limited, limited, FaultSpec("reset", times=1), None]


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        (PROSE, LEAD),
        ("", ""),
        (" \n ", ""),
        ("No stop at all", "No stop at all"),
        ("Only one sentence.", "Only one sentence."),
        ("First. Second.", "First."),
        ("Line one\ngoes on. Line two. Line three.", "Line one goes on. Line two."),
        ('He said "Stop!" and left. She stayed. End.', 'He said "Stop!" and left. She stayed.'),
        ("The U.S. Senate met. It voted. It left.", "The U.S. Senate met. It voted."),
        ("吾輩は猫である。名前はまだ無い。どこで生れたか。", "吾輩は猫である。名前はまだ無い。"),
        ("¿Qué tal? ¡Muy bien! Adiós.", "¿Qué tal? ¡Muy bien!"),
        ("Version 3.14 is out. See No. 5 below. End.", "Version 3.14 is out. See No. 5 below."),
    ],
)
def test_the_extract_is_the_leading_sentences(text: str, summary: str) -> None:
    assert extract(text) == summary


@given(st.text(st.sampled_from("ab Zé.!? \n。語\u00a0\"'1"), max_size=900) | st.text())
def test_the_extract_is_short_and_invents_no_word(text: str) -> None:
    summary = extract(text)
    assert " ".join(text.split()).startswith(summary)
    assert bool(summary) == bool(text.split())
    assert len(summary) <= CHARACTERS_MAX
    assert len(summary.split()) <= WORDS_MAX
