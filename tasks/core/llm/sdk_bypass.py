"""Sends LlamaIndex's chat completions without openai's SDK, as the same bytes that the SDK would send.

The SDK builds one request, which is recorded and not sent. All other requests use its URL, headers and order
of fields. The SDK would use more CPU per row than everything else together: it inspects every message's types
for keys to rename, builds an ``httpx.Request``, and validates the whole reply, of which five fields are used.
``response_policy`` interprets replies.
"""

import json
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import httpx

from tasks.core.errors import RateLimitError, RequestError
from tasks.core.llm import response_policy
from tasks.core.llm.transport import HttpReply, Transport
from tasks.core.model import Outcome
from tasks.core.ratelimit import ratelimit_headers
from tasks.core.ratelimit.ratelimit_headers import RateLimitHeaders

_SUCCESS = range(200, 300)
_NOT_COPIED = {"content-length", "api-key", "authorization", "openai-organization", "openai-project"}
"""Headers that are not copied from the recorded request; the SDK sets some from other providers'
variables."""

_PLACEHOLDER_REPLY = {
    "id": "recorded",
    "object": "chat.completion",
    "created": 0,
    "model": "recorded",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ok"}}],
}


class Recorder(httpx.AsyncClient):
    """Records a request instead of sending it."""

    recorded: httpx.Request

    def __init__(self) -> None:
        super().__init__(trust_env=False)

    async def send(self, request: httpx.Request, **_: Any) -> httpx.Response:
        """Record the request and return a reply, so that the SDK completes the call."""
        self.recorded = request
        return httpx.Response(200, json=_PLACEHOLDER_REPLY, request=request)


class RowRejectedError(Exception):
    """The endpoint rejected this row; passes through LlamaIndex to ``AzureChatModel``.

    Attributes:
        outcome: The row's outcome.
        rate_limits: The quota as the reply's headers report it.
    """

    def __init__(self, outcome: Outcome, rate_limits: RateLimitHeaders) -> None:
        super().__init__(outcome.status)
        self.outcome = outcome
        self.rate_limits = rate_limits


class JsonObject(SimpleNamespace):
    """A JSON object with its fields as attributes; a missing field is None, as in the SDK's models."""

    def __getattr__(self, name: str) -> None:
        """None for a missing field, except for the special names that Python looks up itself."""
        if name.startswith("__"):
            raise AttributeError(name)


class Sender:
    """Sends bodies with the address and headers of a recorded request; belongs to its transport's loop.

    Args:
        transport: Connections to the endpoint.
        recorded: A request built by the SDK.
        credential: Returns the header that authorizes a request; called for each request.
    """

    def __init__(
        self, transport: Transport, recorded: httpx.Request, credential: Callable[[], Mapping[str, str]]
    ) -> None:
        self._transport = transport
        self._url = str(recorded.url)
        self._headers = {name: value for name, value in recorded.headers.items() if name not in _NOT_COPIED}
        self._credential = credential

    async def send(self, body: bytes) -> JsonObject:
        """Post a chat completion's body.

        Returns:
            The completion, not validated, with the parsed rate limit headers as ``rate_limits``.

        Raises:
            RowRejectedError: The row was rejected.
            DeploymentError: The error concerns every row.
            RateLimitError: The endpoint requests a wait.
            RequestError: There was no usable reply; a retry may get one.
        """
        reply = await self._transport.post(self._url, {**self._headers, **self._credential()}, body)
        rate_limits = ratelimit_headers.parse(reply.headers)
        try:
            if reply.status not in _SUCCESS:
                raise RowRejectedError(_rejected(reply), rate_limits)
            completion = _completion(reply)
        except (RateLimitError, RequestError) as error:
            error.rate_limits = rate_limits
            raise
        completion.rate_limits = rate_limits
        return completion


def _rejected(reply: HttpReply) -> Outcome:
    """The outcome of a row that an error status concerns; raises as ``Sender.send`` does."""
    response = _response(reply)
    error = _error(response)
    code, parameter = _string(error, "code"), _string(error, "param")
    return response_policy.rejected(reply.status, code, response.headers, parameter)


def _completion(reply: HttpReply) -> JsonObject:
    try:
        completion = json.loads(_content(reply), object_hook=_as_fields)
    except ValueError as error:
        raise response_policy.unreadable(error) from None
    return completion if isinstance(completion, JsonObject) else JsonObject()


def _as_fields(fields: dict[str, Any]) -> JsonObject:
    return JsonObject(**fields)


def _content(reply: HttpReply) -> bytes:
    if any(name.lower() == b"content-encoding" for name, _ in reply.headers):
        return _response(reply).content
    return reply.body


def _response(reply: HttpReply) -> httpx.Response:
    """The reply as an httpx response, which decompresses the body."""
    try:
        return httpx.Response(reply.status, headers=reply.headers, content=reply.body)
    except httpx.DecodingError:
        # The body is not encoded as its header says, so only status and headers can be used.
        headers = [(name, value) for name, value in reply.headers if name.lower() != b"content-encoding"]
        return httpx.Response(reply.status, headers=headers)


def _error(response: httpx.Response) -> object:
    """``error`` of Azure's error body, or the whole body of a gateway; None if it is not JSON."""
    try:
        body = response.json()
    except ValueError:
        return None
    return body.get("error", body) if isinstance(body, dict) else None


def _string(error: object, name: str) -> str | None:
    value = error.get(name) if isinstance(error, dict) else None
    return value if isinstance(value, str) else None


class Completions:
    """``client.chat.completions``.

    Args:
        sender: Sends the requests.
        recorded: The body of a request built by the SDK; the order of its fields is used.
    """

    def __init__(self, sender: Sender, recorded: bytes) -> None:
        self._sender = sender
        self._names = tuple(json.loads(recorded))

    async def create(self, **fields: Any) -> JsonObject:
        """Post a chat completion's fields unchanged; raises as ``Sender.send`` does."""
        body = {name: fields[name] for name in self._names}
        written = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return await self._sender.send(written.encode())


class Chat:
    """``client.chat``."""

    def __init__(self, completions: Completions) -> None:
        self.completions = completions


class BypassClient:
    """The part of openai's client that ``achat`` uses; takes the arguments of ``Completions``."""

    def __init__(self, sender: Sender, recorded: bytes) -> None:
        self.chat = Chat(Completions(sender, recorded))
