"""From a row's text to what the model is told, and what makes a reply reusable.

The row's text is data: it is put in unread, braces and all, and nothing of it reaches the instruction.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeGuard

from tasks.core.model import Text
from tasks.core.row_key import PLACEHOLDER, EarlierKeys, RowKeys, keys_of

_BYTES_A_TOKEN = 4
_EARLIER_API_VERSION = "2024-10-21"
"""The default of 0.1.0 and 0.2.0; a later default must not make their ledgers be paid again."""
_EARLIER_LIMIT = 256
"""The same for ``max_output_tokens``."""
_LARGEST_LIMIT = 128_000
"""The largest one those versions took; trying all takes half a second for each other fingerprint."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """The instruction sent with every row.

    Attributes:
        instruction: With ``{text}`` in it, the one message sent, the row's text in that place. Without, the
            system message, and the row's text is the user's message.
    """

    instruction: str

    @property
    def messages(self) -> tuple[tuple[str, str], ...]:
        """Role and template of each message; ``{text}`` stands for the row's text."""
        if PLACEHOLDER in self.instruction:
            return (("user", self.instruction),)
        return (("system", self.instruction), ("user", PLACEHOLDER))

    def messages_of(self, text: str) -> list[tuple[str, str]]:
        """Role and content of each message that is sent for a row's text."""
        return [(role, template.replace(PLACEHOLDER, text)) for role, template in self.messages]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What all requests of a run have in common, and the way to the model.

    Attributes:
        deployment: The deployment's name.
        model: The model LlamaIndex assumes.
        api_version: Azure's API version.
        prompt: The instruction.
        temperature: Sampling temperature.
        max_output_tokens: Longest reply, in tokens.
    """

    deployment: str
    model: str
    api_version: str
    prompt: Prompt
    temperature: float
    max_output_tokens: int

    @property
    def fingerprint(self) -> str:
        """The part of the key that is the same for all rows, as 32 hex digits; see ``row_key``."""
        return _row_keys(self).fingerprint

    @property
    def earlier(self) -> tuple[EarlierKeys, ...]:
        """The keys this request's rows may have in ledgers and outputs of versions before 0.3.0."""
        return _earlier(self)

    def earlier_limit(self, fingerprint: str) -> int | None:
        """The limit with which versions before 0.3.0 gave this request a fingerprint; None if none did."""
        return _earlier_limit(self, fingerprint)

    def charged_tokens(self, text: str) -> int:
        """What Azure charges a quota of tokens with when the request arrives, estimated as it does.

        The estimate is made from the prompt's length, not with the model's tokenizer, and the longest reply
        is added whatever the reply will be.
        """
        instruction = self.prompt.instruction
        if PLACEHOLDER in instruction:
            prompt_tokens = _estimated_tokens(instruction) + instruction.count(
                PLACEHOLDER
            ) * _estimated_tokens(text)
        else:
            prompt_tokens = _estimated_tokens(instruction) + _estimated_tokens(text)
        return prompt_tokens + self.max_output_tokens

    def row_keys(self, texts: Iterable[Text]) -> list[bytes | None]:
        """The key of each row; None for a row that is never sent. See ``row_key``."""
        return keys_of(texts, _row_keys(self).of)


@lru_cache(maxsize=16)
def _row_keys(request: Request) -> RowKeys:
    return RowKeys(request.model, request.prompt.messages, {"temperature": request.temperature})


@lru_cache(maxsize=16)
def _earlier(request: Request) -> tuple[EarlierKeys, ...]:
    """By the configured limit and API version first, then by the defaults of those versions."""
    return tuple(_under(request, dict.fromkeys((request.max_output_tokens, _EARLIER_LIMIT))))


@lru_cache(maxsize=256)
def _earlier_limit(request: Request, fingerprint: str) -> int | None:
    keys = _under(request, range(1, _LARGEST_LIMIT + 1))
    return next((one.max_output_tokens for one in keys if one.fingerprint == fingerprint), None)


def _under(request: Request, limits: Iterable[int]) -> Iterator[EarlierKeys]:
    for version in dict.fromkeys((request.api_version, _EARLIER_API_VERSION)):
        yield from EarlierKeys.under_limits(
            limits,
            deployment=request.deployment,
            model=request.model,
            api_version=version,
            instruction=request.prompt.instruction,
            temperature=request.temperature,
        )


def is_sendable(text: Text) -> TypeGuard[str]:
    """Whether a row has text that can be sent."""
    return isinstance(text, str) and bool(text.strip())


def _estimated_tokens(text: str) -> int:
    # Most texts are ASCII, which Python knows without looking; encoding others takes a microsecond.
    size_bytes = len(text) if text.isascii() else len(text.encode(errors="replace"))
    return -(-size_bytes // _BYTES_A_TOKEN)
