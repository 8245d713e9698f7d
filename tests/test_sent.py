"""Requests are equal to those that openai's SDK below LlamaIndex sends."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import httpx
import pytest
from llama_index.llms.azure_openai import AzureOpenAI
from openai.lib.azure import API_KEY_SENTINEL

from tasks.core.endpoint import Endpoint
from tasks.core.errors import RequestError, SettingsError
from tasks.core.llm.client import (
    AzureChatModel,
    build_bypass_model,
    build_client,
    check_model,
    record_request,
)
from tasks.core.llm.sdk_bypass import Recorder, Sender
from tasks.core.llm.transport import HttpReply, Transport
from tasks.core.prompt import Prompt, Request
from tests.endpoint_requests import AWKWARD, REQUEST
from tests.textmodels import row_of

ENDPOINT = Endpoint(url="https://x.openai.azure.com", deployment="d", api_version="2024-10-21")


@pytest.mark.parametrize("model", ["my-deployment", "gpt-3.5-turbo-instruct"])
def test_the_error_about_an_unsupported_model_names_the_variable(model: str) -> None:
    with pytest.raises(SettingsError, match=rf"AZURE_OPENAI_MODEL .* '{model}' is not supported"):
        check_model(build_client(ENDPOINT, replace(REQUEST, model=model)))


def sent_by_the_sdk(request: Request, text: str, **credential: object) -> httpx.Request:
    """The request that openai's SDK below LlamaIndex sends."""

    async def run() -> httpx.Request:
        async with Recorder() as recorder:
            llm = AzureOpenAI(
                engine=ENDPOINT.deployment,
                model=request.model,
                temperature=request.temperature,
                max_tokens=request.max_output_tokens,
                azure_endpoint=ENDPOINT.url,
                api_version=ENDPOINT.api_version,
                timeout=20.0,
                max_retries=0,
                async_http_client=recorder,
                **credential,
            )
            await AzureChatModel(llm, ENDPOINT, request).complete(row_of(text, request))
            return recorder.recorded

    return asyncio.run(run())


def sent_by_us(request: Request, text: str, header: dict[str, str]) -> tuple[str, dict[str, str], bytes]:
    sent: list[tuple[str, dict[str, str], bytes]] = []

    class Keeping(Transport):
        async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> HttpReply:
            sent.append((url, dict(headers), body))
            return HttpReply(500, [], b"")

    async def run() -> None:
        recorded = await record_request(ENDPOINT, request, timeout_s=20.0)
        sender = Sender(Keeping(max_connections=1, timeout_s=20.0), recorded, lambda: header)
        with pytest.raises(RequestError):
            await build_bypass_model(sender, recorded.content, ENDPOINT, request).complete(
                row_of(text, request)
            )

    asyncio.run(run())
    [one] = sent
    return one


@pytest.mark.parametrize("text", AWKWARD, ids=["braces", "double", "json", "nul", "emoji", "spaces", "1MB"])
@pytest.mark.parametrize("model", ["gpt-4o-mini", "o3-mini"])
@pytest.mark.parametrize(
    "prompt",
    ["Be {brief}, \N{SNOWMAN}.", 'Shorten: "{text}"', "{text}, again: {text}"],
    ids=["system", "inline", "twice"],
)
def test_a_request_is_equal_to_that_of_openais_sdk_below_llamaindex(
    text: str, model: str, prompt: str
) -> None:
    request = replace(REQUEST, prompt=Prompt(prompt), model=model)
    theirs = sent_by_the_sdk(request, text, api_key="k")
    url, headers, body = sent_by_us(request, text, {"api-key": "k"})
    assert (url, body) == (str(theirs.url), theirs.content)
    assert headers == {name: value for name, value in theirs.headers.items() if name != "content-length"}


def test_a_token_is_sent_as_openais_sdk_sends_it() -> None:
    credential = {"api_key": API_KEY_SENTINEL, "azure_ad_token_provider": lambda: "t"}
    theirs = sent_by_the_sdk(REQUEST, "A text.", **credential)
    _, headers, _ = sent_by_us(REQUEST, "A text.", {"authorization": "Bearer t"})
    assert headers == {name: value for name, value in theirs.headers.items() if name != "content-length"}
