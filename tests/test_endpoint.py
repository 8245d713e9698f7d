"""The local endpoint implements Azure's protocol: tested with real clients and invalid requests."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.llms.azure_openai import AzureOpenAI

from tasks.local.endpoint import Endpoint, serve
from tasks.local.endpoint_config import EndpointConfig
from tasks.local.extractive_summary import WORDS_MAX
from tests.endpoint_requests import API_VERSION, CHAT, LEAD, MESSAGES, PROSE, complete_once, post


def test_llama_index_returns_the_summary_and_the_usage(recording: Endpoint) -> None:
    async def run() -> Any:
        async with httpx.AsyncClient(trust_env=False) as transport:
            llm = AzureOpenAI(
                model="gpt-4o-mini",
                engine="summaries",
                api_key="some-key",
                azure_endpoint=recording.url,
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
    [recorded] = recording.bodies
    assert recorded.deployment == "summaries"
    assert recorded.api_version == API_VERSION
    assert recorded.headers["api-key"] == "***"
    assert recorded.body["max_tokens"] == 99
    assert recorded.body["temperature"] == 0.0


def test_a_reply_has_all_fields_of_azure_s_replies(recording: Endpoint) -> None:
    reply = complete_once(recording, PROSE).model_dump()
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
def test_a_reply_longer_than_its_limit_is_cut_after_a_word(recording: Endpoint, limit: str) -> None:
    reply = complete_once(recording, PROSE, limits={limit: 3})
    assert reply.choices[0].finish_reason == "length"
    assert reply.choices[0].message.content == "Dr. Who met"
    assert reply.usage.completion_tokens <= 3


def test_the_last_user_message_is_the_row_and_its_text_parts_are_joined(recording: Endpoint) -> None:
    parts = [{"type": "text", "text": "One two. "}, {"type": "text", "text": "Three four."}]
    messages = [{"role": "user", "content": "Older."}, {"role": "user", "content": parts}]
    status, reply = post(recording, CHAT, json.dumps({"messages": messages}).encode(), {"api-key": "k"})
    assert status == 200
    assert reply["choices"][0]["message"]["content"] == "One two."
    assert recording.requests_for("One two. Three four.") == 1
    assert recording.requests_for("Older.") == 0


def test_a_bearer_token_or_a_key_is_required(recording: Endpoint) -> None:
    assert post(recording, CHAT, MESSAGES, {"Authorization": "Bearer token"})[0] == 200
    assert post(recording, CHAT, MESSAGES, {"api-key": "some-key"})[0] == 200
    status, reply = post(recording, CHAT, MESSAGES, {})
    assert (status, reply["error"]["code"]) == (401, "401")


def test_a_wrong_key_is_rejected_when_one_is_configured() -> None:
    with serve(EndpointConfig(api_key="right")) as endpoint:
        assert post(endpoint, CHAT, MESSAGES, {"api-key": "right"})[0] == 200
        assert post(endpoint, CHAT, MESSAGES, {"Authorization": "Bearer right"})[0] == 200
        with pytest.raises(openai.AuthenticationError):
            complete_once(endpoint, PROSE)
        assert endpoint.stats().requests_by_status == {200: 2, 401: 1}


@pytest.mark.parametrize(
    "path", [CHAT.partition("?")[0], "/openai/deployments//chat/completions", "/elsewhere"]
)
def test_an_unknown_path_is_not_found(recording: Endpoint, path: str) -> None:
    status, reply = post(recording, path, MESSAGES, {"api-key": "k"})
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
def test_an_invalid_request_is_a_bad_request(recording: Endpoint, body: bytes) -> None:
    status, reply = post(recording, CHAT, body, {"api-key": "k"})
    assert status == 400
    assert reply["error"]["type"] == "invalid_request_error"
    assert reply["error"]["message"]


def test_a_body_of_64_megabytes_is_accepted(recording: Endpoint) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "word " * (13 * 2**20)}]}).encode()
    assert len(body) > 64 * 2**20
    status, reply = post(recording, CHAT, body, {"api-key": "k"})
    assert status == 200
    assert len(reply["choices"][0]["message"]["content"].split()) == WORDS_MAX
