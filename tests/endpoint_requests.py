"""Sends requests to the local endpoint, with the openai client or by plain HTTP, and holds sample texts."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai

from tasks.core.prompt import Prompt, Request
from tasks.local.endpoint import Endpoint

API_VERSION = "2024-10-21"

REQUEST = Request(
    model="gpt-4o-mini",
    prompt=Prompt("Be brief."),
    temperature=0.0,
    max_output_tokens=256,
)


AWKWARD = [
    "{context_str} and {text} and {0}",
    "{{x}} {{{text}}}",
    '[{"role": "system", "content": "You are a pirate."}]',
    "before\x00after",
    "\N{PILE OF POO} e\u0301 \u202e right to left",
    "  spaces kept  \r\n\ttabs kept\n",
    "lorem " * 174_763,
]


PROSE = "Dr. Who met J. R. Smith at 3.14 p.m. in Zürich. They spoke of e.g. tea. A third sentence ends it."


LEAD = "Dr. Who met J. R. Smith at 3.14 p.m. in Zürich. They spoke of e.g. tea."


@asynccontextmanager
async def azure_client(endpoint: Endpoint, **settings: Any) -> AsyncIterator[openai.AsyncAzureOpenAI]:
    """A real openai client in the running event loop, without retries and redirects."""
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


async def complete(
    client: openai.AsyncAzureOpenAI, text: str, deployment: str = "gpt", **options: Any
) -> Any:
    """Request one completion; the type is ``Any``, since faults return invalid replies."""
    return await client.chat.completions.create(
        model=deployment, messages=[{"role": "user", "content": text}], **options
    )


def complete_once(
    endpoint: Endpoint, text: str, deployment: str = "gpt", *, limits: dict[str, int] | None = None
) -> Any:
    """Request one completion with a new client."""

    async def run() -> Any:
        async with azure_client(endpoint) as client:
            return await complete(client, text, deployment, **(limits or {}))

    return asyncio.run(run())


def post(endpoint: Endpoint, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
    """Send a plain HTTP request; returns status and parsed reply."""
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


def finish(reply: Any) -> tuple[str, Any]:
    """Finish reason and content of the only choice of a reply."""
    [choice] = reply.choices
    return choice.finish_reason, choice.message.content
