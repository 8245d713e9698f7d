"""The chat completions protocol: parses requests, builds completions, estimates tokens.

No function keeps state, except that `parse_target` caches its last results.
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
"""OpenAI's rule of thumb for English; an exact count would need a tokenizer, and cost CPU in benchmarks."""
UNSTATED_REPLY_TOKENS: Final = 16
"""Reply tokens charged for a request without max_tokens: the default of OpenAI's older completions API."""
_PREFIX: Final = "/openai/deployments/"
_SUFFIX: Final = "/chat/completions"


class BadRequestError(ValueError):
    """The request violates the protocol; the message says how."""


@dataclass(frozen=True, slots=True)
class Target:
    """Deployment and API version in a request's path; empty when missing."""

    deployment: str
    api_version: str


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A parsed request.

    Attributes:
        body: The parsed JSON.
        text: The content of the last user message: the row's text.
        row: Hash of the text.
        prompt_tokens: Estimate over all messages.
        max_tokens: Limit of the reply; None when the request has none.
    """

    body: Mapping[str, Any]
    text: str
    row: int
    prompt_tokens: int
    max_tokens: int | None

    @property
    def charged_tokens(self) -> int:
        """Tokens charged to the quota on arrival."""
        return self.prompt_tokens + (self.max_tokens or UNSTATED_REPLY_TOKENS)


@lru_cache(maxsize=256)
def parse_target(raw_path: str) -> Target | None:
    """Parse a chat completions path; None for any other path."""
    parts = urlsplit(raw_path)
    deployment = parts.path.removeprefix(_PREFIX).removesuffix(_SUFFIX)
    if "/" in deployment or parts.path != f"{_PREFIX}{deployment}{_SUFFIX}":
        return None
    version = parse_qs(parts.query).get("api-version", [""])[0]
    return Target(unquote(deployment), version)


def tokens_of(text: str) -> int:
    """Estimate: one token for four bytes of UTF-8, rounded up."""
    size_bytes = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return -(-size_bytes // BYTES_PER_TOKEN)


def parse_request(raw: bytes) -> ChatRequest:
    """Parse and check a request's body.

    Raises:
        BadRequestError: It is not JSON, has no user message, asks for a stream, or allows no reply token.
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
    """Build a completion: the extractive summary of the text, cut to the token limit.

    Returns:
        The reply's JSON with one choice; `finish_reason` is `length` when the summary was cut.
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
    """Cut the content to the limit, at the end of a word if possible."""
    if max_tokens is None or tokens_of(content) <= max_tokens:
        return content
    # "ignore" drops a character that the cut splits.
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
