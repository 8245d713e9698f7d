"""Response policy: turns a reply of the deployment into the row's outcome or an error.

Pure functions of the status, the error code and the headers, or of a chat completion. The error's class
decides what happens next. Message texts are neither parsed nor passed on, since a server's message may quote
the row.

============================================  ===========================================================
reply                                         result
============================================  ===========================================================
3xx, 401, 403, 404, wrong parameters          ``DeploymentError``: concerns every row, the lane stops
429 ``insufficient_quota``                    the same
429                                           ``RateLimitError``: all rows wait, no attempt is used up
408, 409, 5xx                                 ``RequestError``: the row is retried
400 ``content_filter``                        the row is ``filtered`` (billed, so it is never sent again)
400 ``context_length_exceeded``, 413          the row is ``too_long``
any other 4xx                                 the row is ``failed``; many in a row stop the run
200, ``finish_reason`` content_filter/length  the row is ``filtered`` / ``truncated``
200, a refusal                                the row is ``refused``
200 with text                                 the row is ``ok``
200 without text                              the row is ``failed`` (billed; a retry would give the same)
============================================  ===========================================================

Source: Azure OpenAI's REST reference and its content filtering page, checked by tests against the local
endpoint.
"""

import json
import re
import sys
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from tasks.core.errors import DeploymentError, RateLimitError, RequestError
from tasks.core.model import Outcome, Reply, Status

_FIXES = {
    HTTPStatus.UNAUTHORIZED: "the key or token is not accepted: check AZURE_OPENAI_API_KEY and "
    "AZURE_OPENAI_ENDPOINT.",
    HTTPStatus.FORBIDDEN: "access is denied: check the network rules and the role 'Cognitive Services OpenAI "
    "User'.",
    HTTPStatus.NOT_FOUND: "no such deployment: check AZURE_OPENAI_DEPLOYMENT, AZURE_OPENAI_ENDPOINT and "
    "OPENAI_API_VERSION.",
}
_QUOTA_FIX = "the quota is used up: raise it in the Azure portal, or run again in the next billing period."
_REDIRECT_FIX = (
    "the endpoint redirects elsewhere, and redirects are not followed: correct AZURE_OPENAI_ENDPOINT."
)
_PARAMETER_FIX = (
    "the deployment does not accept these parameters: check max_output_tokens, AZURE_OPENAI_MODEL and "
    "OPENAI_API_VERSION."
)
_WRONG_FOR_EVERY_ROW = {
    "OperationNotSupported",
    "invalid_api_version",
    "model_not_found",
    "unknown_model",
    "unsupported_api_version",
    "unsupported_parameter",
    "unsupported_value",
}
_TOO_LONG = {"context_length_exceeded", "string_above_max_length"}
_ROW_PARAMETERS = ("messages", "prompt")
_RETRIED = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT}
_WAIT_HEADERS = (
    ("retry-after-ms", 0.001),
    ("retry-after", 1.0),
    ("x-ratelimit-reset-requests", 1.0),
    ("x-ratelimit-reset-tokens", 1.0),
)
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")

NO_COMPLETION = (ValueError, TypeError, AttributeError, LookupError)
"""Exceptions raised when a reply is not a chat completion."""

# Built once: json.dumps would build an encoder at every call, which takes longer than encoding.
_as_json = json.JSONEncoder(default=vars, separators=(",", ":")).encode


def not_answered(*, sent: bool) -> RequestError:
    """The error of a request without a reply; if it was sent, it may have been served and billed."""
    return RequestError("the connection failed or timed out", possibly_paid=sent, sent=sent)


def unreadable(error: Exception) -> RequestError:
    """The error of a 200 reply that is not a chat completion; names the class of the parser's exception."""
    return RequestError(f"the reply could not be read ({type(error).__name__})", possibly_paid=True)


def rejected(
    status: int, code: str | None, headers: Mapping[str, str], parameter: str | None = None
) -> Outcome:
    """Interpret an error status.

    Args:
        status: The HTTP status.
        code: ``error.code`` of Azure's error body, None without one.
        headers: The reply's headers, with lower-case names.
        parameter: ``error.param`` of the body, the part of the request that is wrong; None without one.

    Returns:
        The row's outcome, if the error concerns this row only.

    Raises:
        DeploymentError: The error concerns every row.
        RateLimitError: The deployment requests a wait.
        RequestError: A retry may succeed.
    """
    # Only an identifier is passed on; a body may contain any text in this field.
    known = code if code and _CODE.fullmatch(code) else ""
    label = f"HTTP {status}, {known}" if known else f"HTTP {status}"
    if fix := _fix(status, known):
        message = f"{label}: {fix}"
        raise DeploymentError(message, status=status)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise RateLimitError(label, retry_after_s=retry_after_s(headers))
    if status in _RETRIED or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise RequestError(label)
    if known == "content_filter":
        return Outcome(Status.FILTERED, error="the prompt was stopped by the content filter")
    if known in _TOO_LONG or status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return Outcome(Status.TOO_LONG, error="the text is longer than the model accepts")
    if status == HTTPStatus.BAD_REQUEST and parameter and not parameter.startswith(_ROW_PARAMETERS):
        # A parameter that does not come from the row is the same for all rows.
        message = f"{label}: {_PARAMETER_FIX}"
        raise DeploymentError(message, status=status)
    return Outcome(Status.FAILED, error=label)


def completed(completion: Any, endpoint: str = "", max_output_tokens: int | None = None) -> Outcome:
    """Interpret a chat completion.

    Args:
        completion: An object with the attributes of openai's ``ChatCompletion``.
        endpoint: The endpoint's name, for the ledger.
        max_output_tokens: The limit of the request.

    Raises:
        LookupError, AttributeError, TypeError: It is not a chat completion.
    """
    choice = completion.choices[0]
    content = sanitize(choice.message.content or "")
    text = content.strip()
    refusal = getattr(choice.message, "refusal", None)
    status, error = _status(choice.finish_reason, refusal, text)
    usage = getattr(completion, "usage", None)
    return Outcome(
        status,
        text or None,
        error,
        completion.model,
        usage.prompt_tokens if usage else None,
        usage.completion_tokens if usage else None,
        cached_tokens=_cached_tokens(usage),
        max_output_tokens=max_output_tokens,
        reply=Reply(
            time.time(),
            endpoint,
            content or None,
            _string(choice.finish_reason),
            _string(refusal),
            _as_json(usage) if usage else None,
            _string(getattr(completion, "service_tier", None)),
        ),
    )


def _string(value: object) -> str | None:
    """A string that the ledger can hold; None for anything else."""
    return sys.intern(sanitize(value)) if isinstance(value, str) else None


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The requested wait: ``retry-after-ms``, else ``retry-after``, else a quota's reset; None without any.

    Some 429s of Azure contain only the seconds until the quotas are full again.
    """
    for name, unit_s in _WAIT_HEADERS:
        try:
            return float(headers[name]) * unit_s
        except (KeyError, ValueError):
            continue
    return None


def sanitize(text: str) -> str:
    """Replace lone surrogates, which Arrow cannot store, by U+FFFD, and pairs by their character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _fix(status: int, code: str) -> str | None:
    """How to fix an error that concerns every row; None for any other error."""
    if code == "insufficient_quota":
        return _QUOTA_FIX
    if code in _WRONG_FOR_EVERY_ROW:
        return _PARAMETER_FIX
    if status < HTTPStatus.BAD_REQUEST:
        return _REDIRECT_FIX
    return _FIXES.get(HTTPStatus(status)) if status in _FIXES else None


def _cached_tokens(usage: Any) -> int | None:
    details = getattr(usage, "prompt_tokens_details", None)
    return getattr(details, "cached_tokens", None)


def _status(finish_reason: str, refusal: str | None, text: str) -> tuple[Status, str | None]:
    if finish_reason == "content_filter":
        return Status.FILTERED, "the reply was stopped by the content filter"
    if refusal:
        return Status.REFUSED, "the model refused"
    if finish_reason == "length":
        return Status.TRUNCATED, "the reply reached max_output_tokens"
    return (Status.OK, None) if text else (Status.FAILED, "the model's reply is empty")
