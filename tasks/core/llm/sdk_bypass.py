"""Sends chat completions for LlamaIndex without openai's SDK, as the bytes that the SDK would send.

The SDK builds one request, which is recorded and not sent; its address, headers and order of fields serve
for all others. For each row the SDK uses more CPU than everything else together: it searches every message
with ``typing`` for keys to rename, builds an ``httpx.Request``, and validates a reply of which five fields
are read. ``response_policy`` decides what a reply means.
"""

import json
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import httpx

from tasks.core.errors import RateLimitError, RequestError
from tasks.core.llm import response_policy
from tasks.core.llm.transport import Reply, Transport
from tasks.core.model import Outcome
from tasks.core.ratelimit import ratelimit_headers
from tasks.core.ratelimit.ratelimit_headers import RateLimitHeaders

_SUCCESS = range(200, 300)
_OURS = {"content-length", "api-key", "authorization", "openai-organization", "openai-project"}
"""Headers that are not taken from the recorded request: the SDK sets some from other providers' variables."""

_CANNED = {
    "id": "recorded",
    "object": "chat.completion",
    "created": 0,
    "model": "recorded",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ok"}}],
}


class Recorder(httpx.AsyncClient):
    """Keeps a request instead of sending it."""

    recorded: httpx.Request

    def __init__(self) -> None:
        super().__init__(trust_env=False)

    async def send(self, request: httpx.Request, **_: Any) -> httpx.Response:
        """Keep the request; answer as a deployment would."""
        self.recorded = request
        return httpx.Response(200, json=_CANNED, request=request)


class RowEndedError(Exception):
    """The endpoint rejected a row for its content; passes through LlamaIndex and is caught right above it.

    Attributes:
        outcome: The row's outcome.
        rate_limits: The quota as the reply's headers report it.
    """

    def __init__(self, outcome: Outcome, rate_limits: RateLimitHeaders) -> None:
        super().__init__(outcome.status)
        self.outcome = outcome
        self.rate_limits = rate_limits


class Fields(SimpleNamespace):
    """A JSON object by its fields; one that is not there is None, as in the SDK's models."""

    def __getattr__(self, name: str) -> None:
        """None for a missing field; names that Python itself looks up stay missing."""
        if name.startswith("__"):
            raise AttributeError(name)


class Sender:
    """Sends bodies with the address and headers of a recorded request; belongs to its transport's loop.

    Args:
        transport: Connections to the endpoint.
        recorded: A request built by the SDK.
        credential: Returns the header that authorizes a request; called for each.
    """

    def __init__(
        self, transport: Transport, recorded: httpx.Request, credential: Callable[[], Mapping[str, str]]
    ) -> None:
        self._transport = transport
        self._url = str(recorded.url)
        self._headers = {name: value for name, value in recorded.headers.items() if name not in _OURS}
        self._credential = credential

    async def send(self, body: bytes) -> Fields:
        """Post a chat completion's body.

        Returns:
            The completion, its fields unchecked, and ``rate_limits``, the quota as the headers report it.

        Raises:
            RowEndedError: The row was rejected.
            DeploymentError: No row would be served.
            RateLimitError: The endpoint asks to wait.
            RequestError: No usable reply; another attempt may get one.
        """
        reply = await self._transport.post(self._url, {**self._headers, **self._credential()}, body)
        rate_limits = ratelimit_headers.parse(reply.headers)
        try:
            if reply.status not in _SUCCESS:
                raise RowEndedError(_rejected(reply), rate_limits)
            completion = _completion(reply)
        except (RateLimitError, RequestError) as error:
            error.rate_limits = rate_limits
            raise
        completion.rate_limits = rate_limits
        return completion


def _rejected(reply: Reply) -> Outcome:
    """The outcome of a row whose request was answered with an error status; raises what ``send`` raises."""
    response = _response(reply)
    error = _error(response)
    code, parameter = _word(error, "code"), _word(error, "param")
    return response_policy.rejected(reply.status, code, response.headers, parameter)


def _completion(reply: Reply) -> Fields:
    try:
        completion = json.loads(_content(reply), object_hook=_as_fields)
    except ValueError as error:
        raise response_policy.unreadable(error) from None
    return completion if isinstance(completion, Fields) else Fields()


def _as_fields(fields: dict[str, Any]) -> Fields:
    return Fields(**fields)


def _content(reply: Reply) -> bytes:
    if any(name.lower() == b"content-encoding" for name, _ in reply.headers):
        return _response(reply).content
    return reply.body


def _response(reply: Reply) -> httpx.Response:
    """The reply as httpx sees it, which knows how to undo the encoding the SDK asked for."""
    try:
        return httpx.Response(reply.status, headers=reply.headers, content=reply.body)
    except httpx.DecodingError:
        # Not what its headers say: status and headers are all there is.
        headers = [(name, value) for name, value in reply.headers if name.lower() != b"content-encoding"]
        return httpx.Response(reply.status, headers=headers)


def _error(response: httpx.Response) -> object:
    """``error`` of Azure's error body, or a gateway's whole body; None without one."""
    try:
        body = response.json()
    except ValueError:
        return None
    return body.get("error", body) if isinstance(body, dict) else None


def _word(error: object, name: str) -> str | None:
    value = error.get(name) if isinstance(error, dict) else None
    return value if isinstance(value, str) else None


class Completions:
    """``client.chat.completions``.

    Args:
        sender: Sends the requests.
        recorded: The body of a request built by the SDK; its order of fields is kept.
    """

    def __init__(self, sender: Sender, recorded: bytes) -> None:
        self._sender = sender
        self._names = tuple(json.loads(recorded))

    async def create(self, **fields: Any) -> Fields:
        """Post a chat completion's fields as they are; raises what ``Sender.send`` raises."""
        body = {name: fields[name] for name in self._names}
        written = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return await self._sender.send(written.encode())


class Chat:
    """``client.chat``."""

    def __init__(self, completions: Completions) -> None:
        self.completions = completions


class BypassClient:
    """openai's client, as far as ``achat`` uses it; takes the arguments of ``Completions``."""

    def __init__(self, sender: Sender, recorded: bytes) -> None:
        self.chat = Chat(Completions(sender, recorded))
