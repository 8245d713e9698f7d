"""All faults of the local endpoint: status, error body and headers, as Azure OpenAI sends them.

Each kind of fault is in exactly one table: error replies (`REFUSALS`), unusual replies with status 200
(`ODD_REPLIES`), or faults of the connection (`CONNECTION_KINDS`, implemented in `http_server`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

SECOND_MS: Final = 1000
HOUR_MS: Final = 3_600_000

_SAFE: Final = {"filtered": False, "severity": "safe"}
SAFE_RESULTS: Final = {"hate": _SAFE, "self_harm": _SAFE, "sexual": _SAFE, "violence": _SAFE}
_VIOLENT_RESULTS: Final = {**SAFE_RESULTS, "violence": {"filtered": True, "severity": "medium"}}


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error reply with Azure's wording.

    Attributes:
        status: HTTP status.
        error: The body's `error`; `{api_version}`, `{seconds}` and `{text}` in its message are filled in.
        retry_after_ms: Its retry-after in milliseconds; None for no such header.
        on_arrival: Sent at once, before the quota is charged; else after the latency.
        billed: Azure bills the prompt although it rejects the request.
    """

    status: int
    error: dict[str, Any]
    retry_after_ms: int | None = None
    on_arrival: bool = False
    billed: bool = False

    def body(self, api_version: str, retry_after_ms: int) -> bytes:
        """The JSON body, with the placeholders of its message filled in."""
        seconds = str(math.ceil(retry_after_ms / SECOND_MS))
        message = self.error["message"].replace("{api_version}", api_version).replace("{seconds}", seconds)
        return json.dumps({"error": {**self.error, "message": message}}).encode()


def _coded(code: str, message: str) -> dict[str, Any]:
    return {"code": code, "message": message}


def _typed(kind: str, code: str | None, param: str | None, message: str) -> dict[str, Any]:
    return {"message": message, "type": kind, "param": param, "code": code}


_RATE_LIMIT: Final = _coded(
    "429",
    "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version {api_version} have "
    "exceeded call rate limit of your current OpenAI S0 pricing tier. Please retry after {seconds} seconds. "
    "Please go here: https://aka.ms/oai/quotaincrease if you would like to further increase the default rate "
    "limit.",
)
_CONTENT_FILTER: Final = {
    **_typed(
        "invalid_request_error",
        "content_filter",
        "prompt",
        "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. "
        "Please modify your prompt and retry.",
    ),
    "status": 400,
    "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": _VIOLENT_RESULTS},
}

REFUSALS: Final[dict[str, Refusal]] = {
    "rate-limit": Refusal(429, _RATE_LIMIT, SECOND_MS, on_arrival=True),
    "rate-limit-long": Refusal(429, _RATE_LIMIT, HOUR_MS, on_arrival=True),
    "quota": Refusal(
        429,
        _typed(
            "insufficient_quota",
            "insufficient_quota",
            None,
            "You exceeded your current quota, please check your plan and billing details.",
        ),
        on_arrival=True,
    ),
    "unauthorized": Refusal(
        401,
        _coded(
            "401",
            "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a "
            "valid key for an active subscription and use a correct regional API endpoint for your resource.",
        ),
        on_arrival=True,
    ),
    "forbidden": Refusal(
        403,
        _coded("PermissionDenied", "Principal does not have access to API/Operation."),
        on_arrival=True,
    ),
    "not-found": Refusal(
        404,
        _coded(
            "DeploymentNotFound",
            "The API deployment for this resource does not exist. If you created the deployment within the "
            "last 5 minutes, please wait a moment and try again.",
        ),
        on_arrival=True,
    ),
    "content-filter": Refusal(400, _CONTENT_FILTER, billed=True),
    "too-long": Refusal(
        400,
        _typed(
            "invalid_request_error",
            "context_length_exceeded",
            "messages",
            "This model's maximum context length is 128000 tokens. Please reduce the length of the messages.",
        ),
    ),
    "bad-request": Refusal(
        400,
        _typed("invalid_request_error", None, None, "The request was rejected as malformed."),
        on_arrival=True,
    ),
    "quoting": Refusal(
        400, _typed("invalid_request_error", None, None, "The request was rejected because it says: {text}")
    ),
    "unsupported-parameter": Refusal(
        400,
        _typed(
            "invalid_request_error",
            "unsupported_parameter",
            "max_tokens",
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
        ),
        on_arrival=True,
    ),
    "timeout-408": Refusal(408, _coded("Timeout", "The operation was timeout.")),
    "conflict-409": Refusal(409, _coded("Conflict", "The resource is being changed; try again.")),
    "server-error": Refusal(
        500, _coded("InternalServerError", "The server had an error while processing your request.")
    ),
    "unavailable": Refusal(
        503, _coded("ServiceUnavailable", "The service is temporarily unable to process your request.")
    ),
}

RESOURCE_NOT_FOUND: Final = Refusal(404, _coded("404", "Resource not found"), on_arrival=True)

Body = dict[str, Any]


def _finish(reason: str, **message: Any) -> Callable[[Body], bytes]:
    """Set the finish reason of the only choice, and some fields of its message."""

    def change(body: Body) -> bytes:
        choice = body["choices"][0]
        choice.update(finish_reason=reason, message={**choice["message"], **message})
        if reason == "content_filter":
            choice["content_filter_results"] = _VIOLENT_RESULTS
        return json.dumps(body).encode()

    return change


def _cut_content(body: Body) -> bytes:
    content = body["choices"][0]["message"]["content"]
    return _finish("length", content=content[: (len(content) + 1) // 2].rstrip())(body)


def _surrogate(body: Body) -> bytes:
    content = body["choices"][0]["message"]["content"]
    return _finish("stop", content=f"\ud800{content}")(body)


def _without_usage(body: Body) -> bytes:
    return json.dumps({name: value for name, value in body.items() if name != "usage"}).encode()


ODD_REPLIES: Final[dict[str, Callable[[Body], bytes]]] = {
    "filtered-reply": _finish("content_filter", content=None),
    "length": _cut_content,
    "empty": _finish("stop", content=""),
    "null-content": _finish("stop", content=None),
    "refusal": _finish("stop", content=None, refusal="I'm sorry, I can't help with that."),
    "no-choices": lambda body: json.dumps({**body, "choices": []}).encode(),
    "bad-json": lambda body: json.dumps(body).encode()[:-40],
    "html": lambda _: b"<html><body><h1>Gateway is being updated</h1></body></html>",
    "lone-surrogate": _surrogate,
    "none-usage": _without_usage,
}

CONNECTION_KINDS: Final = frozenset({"reset", "hang", "drip", "redirect"})
KINDS: Final = frozenset(REFUSALS) | frozenset(ODD_REPLIES) | CONNECTION_KINDS
