"""What the deployment's answers mean: the policy table.

Pure: from a status, an error code and headers, or from a chat completion, to the row's outcome or an error
whose class says who acts next. Nothing is read from message texts, and none is passed on, since a server's
message may quote the row.

============================================  ===========================================================
answer                                        meaning
============================================  ===========================================================
3xx, 401, 403, 404, wrong parameters          ``DeploymentError``: no row would be served, stop
429 ``insufficient_quota``                    the same
429                                           ``RateLimitError``: all rows wait, no attempt is spent
408, 409, 5xx                                 ``RequestError``: another attempt may do better
400 ``content_filter``                        the row is ``filtered`` (and billed: it is never resent)
400 ``context_length_exceeded``, 413          the row is ``too_long``
any other 4xx                                 the row is ``failed``; many in a row stop the run
200, ``finish_reason`` content_filter/length  the row is ``filtered`` / ``truncated``
200, a refusal                                the row is ``refused``
200 with text                                 the row is ``ok``
200 without                                   the row is ``failed``: paid, and asking again gives the same
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

_CURES = {
    HTTPStatus.UNAUTHORIZED: "the key or token is not accepted: check AZURE_OPENAI_API_KEY and "
    "AZURE_OPENAI_ENDPOINT.",
    HTTPStatus.FORBIDDEN: "access is denied: check the network rules and the role 'Cognitive Services OpenAI "
    "User'.",
    HTTPStatus.NOT_FOUND: "no such deployment: check AZURE_OPENAI_DEPLOYMENT, AZURE_OPENAI_ENDPOINT and "
    "OPENAI_API_VERSION.",
}
_QUOTA_CURE = "the quota is used up: raise it in the Azure portal, or run again in the next billing period."
_REDIRECT_CURE = "the endpoint redirects elsewhere, which is not followed: correct AZURE_OPENAI_ENDPOINT."
_PARAMETER_CURE = (
    "the deployment does not take these parameters: check max_output_tokens, AZURE_OPENAI_MODEL and "
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
_OF_THE_ROW = ("messages", "prompt")
_TRY_AGAIN = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT}
_WAITS = (
    ("retry-after-ms", 0.001),
    ("retry-after", 1.0),
    ("x-ratelimit-reset-requests", 1.0),
    ("x-ratelimit-reset-tokens", 1.0),
)
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")

NO_COMPLETION = (ValueError, TypeError, AttributeError, LookupError)
"""What reading something that is not a chat completion raises."""

# Made once: json.dumps makes one at every call, which costs more than the encoding.
_as_json = json.JSONEncoder(default=vars, separators=(",", ":")).encode


def not_answered(*, sent: bool) -> RequestError:
    """No reply came; what was sent may have been served all the same."""
    return RequestError("the connection failed or timed out", possibly_paid=sent, sent=sent)


def unreadable(error: Exception) -> RequestError:
    """A 200 reply that is not a chat completion; told by the class of what reading it raised."""
    return RequestError(f"the reply could not be read ({type(error).__name__})", possibly_paid=True)


def rejected(
    status: int, code: str | None, headers: Mapping[str, str], parameter: str | None = None
) -> Outcome:
    """Judge an error status.

    Args:
        status: The HTTP status.
        code: ``error.code`` of Azure's error body, None without one.
        headers: The reply's headers, with lower-case names.
        parameter: ``error.param`` of the body: which part of the request is wrong, None when nobody says.

    Returns:
        The row's outcome, when the fault is the row's.

    Raises:
        DeploymentError: No row would be served.
        RateLimitError: The deployment asks to wait.
        RequestError: Another attempt may be served.
    """
    # Only what looks like an identifier is told; a body could put anything in this place.
    known = code if code and _CODE.fullmatch(code) else ""
    label = f"HTTP {status}, {known}" if known else f"HTTP {status}"
    if cure := _cure(status, known):
        message = f"{label}: {cure}"
        raise DeploymentError(message, status=status)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise RateLimitError(label, retry_after_s=retry_after_s(headers))
    if status in _TRY_AGAIN or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise RequestError(label)
    if known == "content_filter":
        return Outcome(Status.FILTERED, error="the prompt was stopped by the content filter")
    if known in _TOO_LONG or status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return Outcome(Status.TOO_LONG, error="the text is longer than the model takes")
    if status == HTTPStatus.BAD_REQUEST and parameter and not parameter.startswith(_OF_THE_ROW):
        # What is not the row's is the same for all rows.
        message = f"{label}: {_PARAMETER_CURE}"
        raise DeploymentError(message, status=status)
    return Outcome(Status.FAILED, error=label)


def completed(completion: Any, endpoint: str = "", max_output_tokens: int | None = None) -> Outcome:
    """Judge a chat completion: anything with the attributes of openai's object.

    Args:
        completion: The completion.
        endpoint: Where it came from, for the ledger.
        max_output_tokens: The limit of the request.

    Raises:
        LookupError, AttributeError, TypeError: It is not a chat completion.
    """
    choice = completion.choices[0]
    content = sanitize(choice.message.content or "")
    text = content.strip()
    refusal = getattr(choice.message, "refusal", None)
    status, error = _judge(choice.finish_reason, refusal, text)
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
            _words(choice.finish_reason),
            _words(refusal),
            _as_json(usage) if usage else None,
            _words(getattr(completion, "service_tier", None)),
        ),
    )


def _words(value: object) -> str | None:
    """A string that the ledger can hold; None for anything else."""
    return sys.intern(sanitize(value)) if isinstance(value, str) else None


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait from ``retry-after-ms``, else ``retry-after``; None when neither says.

    Azure has also refused with nothing but the seconds until its quotas are full again.
    """
    for name, unit_s in _WAITS:
        try:
            return float(headers[name]) * unit_s
        except (KeyError, ValueError):
            continue
    return None


def sanitize(text: str) -> str:
    """Replace lone surrogates, which Arrow cannot hold, with U+FFFD; pairs become the character they mean."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _cure(status: int, code: str) -> str | None:
    """What a person does about an answer that concerns every row; None for any other."""
    if code == "insufficient_quota":
        return _QUOTA_CURE
    if code in _WRONG_FOR_EVERY_ROW:
        return _PARAMETER_CURE
    if status < HTTPStatus.BAD_REQUEST:
        return _REDIRECT_CURE
    return _CURES.get(HTTPStatus(status)) if status in _CURES else None


def _cached_tokens(usage: Any) -> int | None:
    details = getattr(usage, "prompt_tokens_details", None)
    return getattr(details, "cached_tokens", None)


def _judge(finish_reason: str, refusal: str | None, text: str) -> tuple[Status, str | None]:
    if finish_reason == "content_filter":
        return Status.FILTERED, "the reply was stopped by the content filter"
    if refusal:
        return Status.REFUSED, "the model refused"
    if finish_reason == "length":
        return Status.TRUNCATED, "the reply reached max_output_tokens"
    return (Status.OK, None) if text else (Status.FAILED, "the model replied with nothing")
