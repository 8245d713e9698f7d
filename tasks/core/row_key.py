"""The row's key: the hash of what decides the reply to a row. It is computed here and nowhere else.

In the key: the model, the messages as they are sent, the response schema, the sampling parameters as the
person set them. Not in the key: ``max_output_tokens``, which only cuts a reply short, and the way to the
model (deployment, host, API version, credential). A key that changes makes every row be paid again, so a
change here needs a class of its own for the keys that earlier versions wrote, as in ``earlier_keys``.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping

from tasks.core.model import Text

KEY_BYTES = 16
PLACEHOLDER = "{text}"
"""In the messages of a request: the place of the row's text."""

_FORMAT = 2
_LENGTH_BYTES = 8

Messages = tuple[tuple[str, str], ...]
"""Role and template of each message."""


class RowKeys:
    """Computes the keys of one request's rows.

    Args:
        model: The model that is asked for.
        messages: Role and template of each message; ``{text}`` is in at least one of them.
        sampling: Sampling parameters as the person set them.
        response_schema: The JSON schema a reply has to follow; None for plain text.
    """

    def __init__(
        self,
        model: str,
        messages: Messages,
        sampling: Mapping[str, float],
        response_schema: Mapping[str, object] | None = None,
    ) -> None:
        facts = {
            "format": _FORMAT,
            "model": model,
            "response_schema": response_schema,
            "sampling": {name: float(value) for name, value in sampling.items()},
        }
        self.fingerprint = _digest(_json({**facts, "messages": messages})).hex()
        """A hash of what all rows of the request have in common, as 32 hex digits."""
        templates = [template for _, template in messages]
        # All contents one after the other, cut where the text goes: text.join(pieces) renders them at once.
        first, *self._rest = (_bytes(piece) for piece in "".join(templates).split(PLACEHOLDER))
        self._places = [template.count(PLACEHOLDER) for template in templates]
        self._fixed = [len(_bytes(template.replace(PLACEHOLDER, ""))) for template in templates]
        roles = [role for role, _ in messages]
        self._start = hashlib.blake2b(_json({**facts, "roles": roles}) + first, digest_size=KEY_BYTES)

    def of(self, text: str) -> bytes:
        """The key of a row with this text, 16 bytes."""
        data = _bytes(text)
        row = self._start.copy()
        row.update(data)
        row.update(data.join(self._rest))
        # The lengths say where one message ends and the next begins.
        for fixed, places in zip(self._fixed, self._places, strict=True):
            row.update((fixed + places * len(data)).to_bytes(_LENGTH_BYTES, "little"))
        return row.digest()


def keys_of(texts: Iterable[Text], key_of: Callable[[str], bytes]) -> list[bytes | None]:
    """One key per row, in order; None for a row that is never sent (null, blank, not valid UTF-8)."""
    return [key_of(text) if isinstance(text, str) and text.strip() else None for text in texts]


def _json(facts: Mapping[str, object]) -> bytes:
    return json.dumps(facts, sort_keys=True).encode()


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=KEY_BYTES).digest()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
