"""The same requests for less CPU: the SDK writes one, the rows fill in their text.

LlamaIndex and openai's SDK spend most of a row's CPU on building a request that differs from the last one in
the row's text alone, and on models of a reply of which five fields are read. Here the SDK builds the request
once, with a placeholder for the text; each row's bytes are that request with the text in place, escaped the
way the SDK escapes it, sent through the same client. What a reply means is ``replies``' to say, as for every
other model. Tests hold both ways against each other: the bytes sent, and the outcomes of all faults.
"""

import json
from types import SimpleNamespace
from typing import Any

import httpx

from tasks.core import replies
from tasks.core.entra import Token
from tasks.core.model import Outcome
from tasks.core.transport import AiohttpClient

PLACE = "the-text-of-the-row-7c2e9a4b1f6d4e0a"
"""Stands for the row's text in the recorded request; plain ASCII, so escaping leaves it as it is."""

_SUCCESS = range(200, 300)
_CANNED = {
    "id": "recorded",
    "object": "chat.completion",
    "created": 0,
    "model": "recorded",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ok"}}],
}


class Recorder(httpx.AsyncClient):
    """Keeps the request it is asked to send instead of sending it."""

    recorded: httpx.Request

    async def send(self, request: httpx.Request, **_: Any) -> httpx.Response:
        """Keep the request; answer as a deployment would."""
        self.recorded = request
        return httpx.Response(200, json=_CANNED, request=request)


class LeanChatModel:
    """Sends a recorded request with each row's text in it; belongs to its client's loop.

    Args:
        http: The client to send with.
        recorded: The request for a row whose text is ``PLACE``.
        token: Entra ID's token, when requests carry one.
    """

    def __init__(self, http: AiohttpClient, recorded: httpx.Request, token: Token | None = None) -> None:
        self._http = http
        self._url = str(recorded.url)
        self._headers = {name: value for name, value in recorded.headers.items() if name != "content-length"}
        # A prompt may name the text's place more than once.
        self._pieces = recorded.content.split(PLACE.encode())
        self._token = token

    async def summarize(self, text: str) -> Outcome:
        """Send one request; see ``summarizer.ChatModel``."""
        try:
            body = json.dumps(text, ensure_ascii=False)[1:-1].encode().join(self._pieces)
        except UnicodeEncodeError:
            return replies.CANNOT_BE_SENT
        try:
            reply = await self._http.exchange("POST", self._url, self._authorized(), body)
        except httpx.TransportError as error:
            raise replies.not_answered(sent=not isinstance(error, httpx.ConnectError)) from None
        # httpx knows how to undo the content encoding it asked for.
        response = httpx.Response(reply.status, headers=reply.headers, content=reply.body)
        if reply.status not in _SUCCESS:
            return replies.rejected(reply.status, _error_code(response), response.headers)
        try:
            return replies.completed(json.loads(response.content, object_hook=_as_object))
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            raise replies.unreadable(error) from None

    def _authorized(self) -> dict[str, str]:
        if self._token is None:
            return self._headers
        return {**self._headers, "authorization": f"Bearer {self._token.value()}"}


def _as_object(fields: dict[str, Any]) -> SimpleNamespace:
    return SimpleNamespace(**fields)


def _error_code(response: httpx.Response) -> str | None:
    """``error.code`` of Azure's error body, or ``code`` of a gateway's; None without one."""
    try:
        body = response.json()
        return str(body.get("error", body)["code"])
    except (ValueError, TypeError, AttributeError, LookupError):
        return None
