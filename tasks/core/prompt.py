"""What is requested for a row: renders a row's text into messages, and computes the row's key and size.

The row's text is data: it is put in as it is, braces and all, and nothing of it reaches the instruction.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from tasks.core.model import Outcome, Status, Text
from tasks.core.row_key import PLACEHOLDER, Messages, RowKeys, keys_of

_BYTES_A_TOKEN = 4


@dataclass(frozen=True, slots=True)
class RenderedRow:
    """A row as it is sent; all that summarizer, rate limiter, budget and ledger need to know of it.

    Attributes:
        key: The hash of what decides the reply, 16 bytes; see ``row_key``.
        messages: Role and content of each message.
        size_bytes: Of all contents together, in UTF-8.
    """

    key: bytes
    messages: Messages
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Prompt:
    """The instruction sent with every row.

    Attributes:
        instruction: With ``{text}`` in it, the one message sent, the row's text in that place. Without, the
            system message, and the row's text is the user's message.
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
    """What all requests of a run have in common, whatever endpoint they are sent to.

    Attributes:
        model: The model that is asked for.
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
        # From a script without a type checker: one bad row does not fail the others.
        return Outcome(Status.FAILED, error=f"the text is a {type(text).__name__}")

    def charged_tokens(self, row: RenderedRow) -> float:
        """Tokens that Azure subtracts from a quota when the request arrives, estimated as Azure does.

        Azure estimates from the prompt's length, without the model's tokenizer, and adds the longest reply
        whatever the reply will be.
        """
        return -(-row.size_bytes // _BYTES_A_TOKEN) + self.max_output_tokens


class _Renderer:
    """Renders the rows of one request; what is the same for all of them is computed once."""

    def __init__(self, request: Request) -> None:
        self.keys = RowKeys(request.model, request.prompt.messages, {"temperature": request.temperature})
        # Messages without a place for the text are the same objects in every row.
        self._messages = [
            ((role, template), PLACEHOLDER in template) for role, template in request.prompt.messages
        ]
        templates = [template for _, template in request.prompt.messages]
        self._places = sum(template.count(PLACEHOLDER) for template in templates)
        self._fixed_bytes = sum(_size_bytes(template.replace(PLACEHOLDER, "")) for template in templates)

    def render(self, text: str, key: bytes | None) -> RenderedRow | Outcome:
        try:
            size_bytes = _size_bytes(text)
        except UnicodeEncodeError:
            return Outcome(Status.FAILED, error="the text holds a character that UTF-8 cannot carry")
        messages = tuple(
            (message[0], message[1].replace(PLACEHOLDER, text)) if has_place else message
            for message, has_place in self._messages
        )
        size_bytes = self._fixed_bytes + self._places * size_bytes
        return RenderedRow(key or self.keys.of(text), messages, size_bytes)


@lru_cache(maxsize=16)
def _renderer(request: Request) -> _Renderer:
    return _Renderer(request)


def _size_bytes(text: str) -> int:
    # Python stores whether a text is ASCII, as most are; encoding another one takes a microsecond.
    return len(text) if text.isascii() else len(text.encode())
