"""Renders a row's text into messages, and computes the row's key and size.

The text is inserted unchanged: braces in it are not placeholders, and it cannot change the instruction.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from tasks.core.model import Outcome, Status, Text
from tasks.core.row_key import PLACEHOLDER, Messages, RowKeys, keys_of

_BYTES_PER_TOKEN = 4
"""For the charge to a quota of tokens. Less estimates too many tokens, so requests start too slowly; more is
refused. Four is the usual figure for English text. Not measured on Azure; the local endpoint uses it as
well."""


@dataclass(frozen=True, slots=True)
class RenderedRow:
    """A row that is ready to be sent, as summarizer, rate limiter, budget and ledger use it.

    Attributes:
        key: The row's key, 16 bytes; see ``row_key``.
        messages: Role and content of each message.
        size_bytes: Size of all contents together, in UTF-8.
    """

    key: bytes
    messages: Messages
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Prompt:
    """The instruction sent with every row.

    Attributes:
        instruction: If it contains ``{text}``, it is the only message, with the row's text in that place. If
            not, it is the system message, and the row's text is the user message.
    """

    instruction: str

    @property
    def messages(self) -> Messages:
        """Role and template of each message; ``{text}`` stands for the row's text."""
        if PLACEHOLDER in self.instruction:
            return (("user", self.instruction),)
        return (("system", self.instruction), ("user", PLACEHOLDER))

    def messages_of(self, text: str) -> Messages:
        """Role and content of each message that is sent for a row's text."""
        return tuple((role, template.replace(PLACEHOLDER, text)) for role, template in self.messages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What all requests of a run have in common, at every endpoint.

    Attributes:
        model: The model's name.
        prompt: The instruction.
        temperature: Sampling temperature.
        max_output_tokens: Longest reply, in tokens.
    """

    model: str
    prompt: Prompt
    temperature: float
    max_output_tokens: int

    @property
    def fingerprint(self) -> str:
        """The part of the key that is the same for all rows, as 32 hex digits; see ``row_key``."""
        return _renderer(self).keys.fingerprint

    def row_keys(self, texts: Iterable[Text]) -> list[bytes | None]:
        """The key of each row; None for a row that is never sent. See ``row_key``."""
        return keys_of(texts, _renderer(self).keys.of)

    def render(self, text: object, key: bytes | None = None) -> RenderedRow | Outcome:
        """A row ready to be sent, or the outcome of a row that needs no request or cannot be sent.

        Args:
            text: The row's text; null, blank and invalid values are allowed.
            key: The row's key, if it is computed already.
        """
        if text is None or (isinstance(text, str) and not text.strip()):
            return Outcome(Status.EMPTY)
        if isinstance(text, str):
            return _renderer(self).render(text, key)
        if isinstance(text, bytes):
            return Outcome(Status.FAILED, error="the text is not valid UTF-8")
        # A script may pass any type; such a row fails alone.
        return Outcome(Status.FAILED, error=f"the text is a {type(text).__name__}")

    def quota_tokens(self, row: RenderedRow) -> float:
        """Tokens that Azure charges to the quota when a request arrives; not the billed ones.

        Azure estimates them from the prompt's length, without a tokenizer, and adds the longest reply. This
        is the same estimate.
        """
        return -(-row.size_bytes // _BYTES_PER_TOKEN) + self.max_output_tokens


class _Renderer:
    """Renders the rows of one request; computes once what is equal for all rows."""

    def __init__(self, request: Request) -> None:
        self.keys = RowKeys(request.model, request.prompt.messages, {"temperature": request.temperature})
        # A message without a placeholder is the same object in every row.
        self._messages = [
            ((role, template), PLACEHOLDER in template) for role, template in request.prompt.messages
        ]
        templates = [template for _, template in request.prompt.messages]
        self._placeholders = sum(template.count(PLACEHOLDER) for template in templates)
        self._fixed_bytes = sum(_size_bytes(template.replace(PLACEHOLDER, "")) for template in templates)

    def render(self, text: str, key: bytes | None) -> RenderedRow | Outcome:
        try:
            size_bytes = _size_bytes(text)
        except UnicodeEncodeError:
            return Outcome(Status.FAILED, error="the text contains a character that UTF-8 cannot encode")
        messages = tuple(
            (message[0], message[1].replace(PLACEHOLDER, text)) if has_placeholder else message
            for message, has_placeholder in self._messages
        )
        size_bytes = self._fixed_bytes + self._placeholders * size_bytes
        return RenderedRow(key or self.keys.of(text), messages, size_bytes)


@lru_cache(maxsize=16)
def _renderer(request: Request) -> _Renderer:
    return _Renderer(request)


def _size_bytes(text: str) -> int:
    # Python stores whether a text is ASCII, so most texts need no encoding to be measured.
    return len(text) if text.isascii() else len(text.encode())
