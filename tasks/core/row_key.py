"""The row's key: a hash of everything that determines the reply to a row; computed only here.

The key contains the model, the rendered messages, the response schema, and the sampling parameters as the
user set them. It does not contain ``max_output_tokens``, which only truncates a reply, nor the route to the
model (deployment, host, API version, credential). If the key changes, every row is paid for again: a change
needs code that computes the earlier keys too, as in ``earlier_keys``.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping

from tasks.core.model import Text

KEY_BYTES = 16
PLACEHOLDER = "{text}"
"""Replaced by the row's text in the messages of a request."""

_FORMAT = 2
_LENGTH_BYTES = 8

Messages = tuple[tuple[str, str], ...]
"""Role and template of each message."""


class RowKeys:
    """Computes the keys of the rows of one request template.

    Args:
        model: The requested model.
        messages: Role and template of each message; at least one contains ``{text}``.
        sampling: Sampling parameters as the user set them.
        response_schema: The JSON schema of a reply; None for plain text.
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
        """Hash of the parts that all rows have in common, as 32 hex digits."""
        templates = [template for _, template in messages]
        # The concatenated templates, split at the placeholder: text.join(pieces) renders all messages at
        # once.
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
        # The lengths mark the boundaries between messages, so that moving text between them changes the key.
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
