"""From a row's text to what the model is told, and what makes a reply reusable.

The row's text is data: it is put in unread, braces and all, and nothing of it reaches the instruction.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TypeGuard

from tasks.core.model import Text

PLACEHOLDER = "{text}"
_FORMAT = 1
_BYTES_A_TOKEN = 4


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
    """Everything but the row's text that decides a reply.

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
        """A hash that is equal only for requests whose replies may stand for each other, as 32 hex digits."""
        facts = json.dumps({"format": _FORMAT, **asdict(self)}, sort_keys=True)
        return hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()

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
        """The key of each row: 16 bytes that are equal only for rows whose replies may stand for each other.

        The fingerprint holds the prompt, so together with the row's text it decides every message that is
        sent.

        Returns:
            One key per row; None for a row that is never sent (null, blank, not valid UTF-8).
        """
        start = hashlib.blake2b(self.fingerprint.encode(), digest_size=16)
        return [_key(start, text) if is_sendable(text) else None for text in texts]


def is_sendable(text: Text) -> TypeGuard[str]:
    """Whether a row has text that can be sent."""
    return isinstance(text, str) and bool(text.strip())


def _estimated_tokens(text: str) -> int:
    # Most texts are ASCII, which Python knows without looking; encoding others takes a microsecond.
    size_bytes = len(text) if text.isascii() else len(text.encode(errors="replace"))
    return -(-size_bytes // _BYTES_A_TOKEN)


def _key(start: "hashlib.blake2b", text: str) -> bytes:
    row = start.copy()
    row.update(text.encode("utf-8", "surrogatepass"))
    return row.digest()
