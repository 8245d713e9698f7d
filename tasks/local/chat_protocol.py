"""The chat completions protocol: reading a request, writing a completion, counting tokens.

Here: what Azure OpenAI's JSON and path look like. Not here: quotas, faults, latency and the socket.
Invariant: pure functions of their arguments; nothing is remembered but the last few different paths.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from tasks.local.counters import row_digest
from tasks.local.extractive_summary import leading_sentences
from tasks.local.faults import SAFE_RESULTS

BYTES_PER_TOKEN: Final = 4
# What a request without max_tokens is charged for its reply.
UNSTATED_REPLY_TOKENS: Final = 16
_PREFIX: Final = "/openai/deployments/"
_SUFFIX: Final = "/chat/completions"


class BadRequestError(ValueError):
    """The request is not one that the protocol allows; the message says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request went: the deployment and the API version, empty when the path names none."""

    deployment: str
    api_version: str


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request that could be read.

    Attributes:
        body: The parsed JSON.
        text: The content of the last user message: the row's text.
        row: The text's digest.
        prompt_tokens: Estimate over all messages.
        max_tokens: The reply's limit in tokens; None when the request states none.
    """

    body: Mapping[str, Any]
    text: str
    row: int
    prompt_tokens: int
    max_tokens: int | None

    @property
    def charged_tokens(self) -> int:
        """What the token quota is charged on arrival."""
        return self.prompt_tokens + (self.max_tokens or UNSTATED_REPLY_TOKENS)


@lru_cache(maxsize=256)
def read_target(raw_path: str) -> Target | None:
    """The deployment and API version of a chat completions path; None for every other path."""
    parts = urlsplit(raw_path)
    deployment = parts.path.removeprefix(_PREFIX).removesuffix(_SUFFIX)
    if "/" in deployment or parts.path != f"{_PREFIX}{deployment}{_SUFFIX}":
        return None
    version = parse_qs(parts.query).get("api-version", [""])[0]
    return Target(unquote(deployment), version)


def tokens_of(text: str) -> int:
    """A token for every four bytes of UTF-8, rounded up."""
    size_bytes = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return -(-size_bytes // BYTES_PER_TOKEN)


def read_chat(raw: bytes) -> ChatRequest:
    """Parse and check a request's body.

    Raises:
        BadRequestError: It is not JSON, has no user message, wants a stream, or limits the reply to nothing.
    """
    try:
        body = json.loads(raw)
        contents = [(message["role"], _content(message["content"])) for message in body["messages"]]
        limits = (body.get("max_completion_tokens"), body.get("max_tokens"))
        max_tokens = next((limit for limit in limits if limit is not None), None)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        message = f"the body is not a chat completions request ({type(error).__name__})"
        raise BadRequestError(message) from None
    users = [content for role, content in contents if role == "user"]
    if not users:
        message = "there is no message with role 'user'"
        raise BadRequestError(message)
    _check(body, max_tokens)
    prompt_tokens = sum(tokens_of(content) for _, content in contents)
    return ChatRequest(body, users[-1], row_digest(users[-1]), prompt_tokens, max_tokens)


def _check(body: Mapping[str, Any], max_tokens: object) -> None:
    if body.get("stream"):
        message = "this endpoint does not stream"
        raise BadRequestError(message)
    if max_tokens is not None and not (type(max_tokens) is int and max_tokens >= 1):
        message = "max_tokens must be a whole number of at least 1"
        raise BadRequestError(message)


def _content(content: Any) -> str:
    """The text of a message, given as a string or as parts."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part["text"] for part in content if part["type"] == "text")


def complete(request: ChatRequest, model: str, reply_id: str) -> dict[str, Any]:
    """A completion of the request: the extract of its text, cut to its token limit.

    Returns:
        The reply's JSON with one choice; `finish_reason` is `length` when the extract was cut.
    """
    content = leading_sentences(request.text)
    cut = _cut(content, request.max_tokens)
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": cut, "refusal": None},
        "logprobs": None,
        "finish_reason": "stop" if cut == content else "length",
        "content_filter_results": SAFE_RESULTS,
    }
    return {
        "id": f"chatcmpl-{reply_id}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": "fp_local",
        "choices": [choice],
        "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": SAFE_RESULTS}],
        "usage": _usage(request.prompt_tokens, tokens_of(cut)),
    }


def _cut(content: str, max_tokens: int | None) -> str:
    """As much of the content as the limit allows, after a whole word if there is one."""
    if max_tokens is None or tokens_of(content) <= max_tokens:
        return content
    # "ignore" drops the character that the limit splits.
    head = content.encode("utf-8", "surrogatepass")[: max_tokens * BYTES_PER_TOKEN].decode("utf-8", "ignore")
    if content[len(head) : len(head) + 1] == " ":
        return head
    return head[: head.rfind(" ")] if " " in head else head


def _usage(prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }
