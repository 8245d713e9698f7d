"""What LlamaIndex's ``achat`` needs of openai's client, over the wire.

LlamaIndex hands ``chat.completions.create`` what is to be sent, as it is to be sent. Here it goes out as the
bytes the SDK makes of it; a reply comes back as its fields, an error as this project's own.
"""

import json
from typing import Any

from tasks.core.calls.wire import Fields, Wire


class Completions:
    """``client.chat.completions``.

    Args:
        wire: Sends it.
        recorded: The body of a request of the SDK's, whose order of fields is kept.
    """

    def __init__(self, wire: Wire, recorded: bytes) -> None:
        self._wire = wire
        self._names = tuple(json.loads(recorded))

    async def create(self, **fields: Any) -> Fields:
        """Post a chat completion's fields as they are; raises what ``Wire.send`` raises."""
        body = {name: fields[name] for name in self._names}
        written = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return await self._wire.send(written.encode())


class Chat:
    """``client.chat``."""

    def __init__(self, completions: Completions) -> None:
        self.completions = completions


class WireClient:
    """openai's client, as far as ``achat`` uses it; takes what ``Completions`` takes."""

    def __init__(self, wire: Wire, recorded: bytes) -> None:
        self.chat = Chat(Completions(wire, recorded))
