"""Keys that versions before 0.3.0 gave to rows; what they paid for is found by them.

They hashed the way to the model and the limit too: deployment, API version and ``max_output_tokens``.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from tasks.core.endpoint import Endpoint
from tasks.core.prompt import Request

_KEY_BYTES = 16
_API_VERSION = "2024-10-21"
"""The default of 0.1.0 and 0.2.0; a later default must not make their ledgers be paid again."""
_LIMIT = 256
"""The same for ``max_output_tokens``."""
_LARGEST_LIMIT = 128_000
"""The largest one those versions took. To try all takes half a second for each other fingerprint; fewer would
pay again for replies under a limit that is not tried."""


@dataclass(frozen=True, slots=True)
class EarlierKeys:
    """Computes the keys that versions before 0.3.0 gave to the rows of one request.

    Attributes:
        fingerprint: What was hashed before the row's text; deployment, API version and limit are in it.
        max_output_tokens: The limit of the request.
    """

    fingerprint: str
    max_output_tokens: int

    def of(self, text: str) -> bytes:
        """The key of a row with this text, 16 bytes."""
        return _digest(self.fingerprint.encode() + text.encode("utf-8", "surrogatepass"))


@lru_cache(maxsize=16)
def earlier_keys(request: Request, endpoints: tuple[Endpoint, ...]) -> tuple[EarlierKeys, ...]:
    """The keys that a request's rows may have in ledgers and outputs of versions before 0.3.0.

    Those of the configured limit and API version come first, then those of the defaults of these versions.
    """
    limits = tuple(dict.fromkeys((request.max_output_tokens, _LIMIT)))
    return tuple(keys for endpoint in endpoints for keys in _under(request, endpoint, limits))


@lru_cache(maxsize=256)
def earlier_limit(request: Request, endpoints: tuple[Endpoint, ...], fingerprint: str) -> int | None:
    """The limit under which versions before 0.3.0 gave a request this fingerprint; None if none did."""
    limits = range(1, _LARGEST_LIMIT + 1)
    keys = (keys for endpoint in endpoints for keys in _under(request, endpoint, limits))
    return next((one.max_output_tokens for one in keys if one.fingerprint == fingerprint), None)


def _under(request: Request, endpoint: Endpoint, limits: Iterable[int]) -> Iterator[EarlierKeys]:
    """The keys under each limit, by the configured API version and then by the default one."""
    for version in dict.fromkeys((endpoint.api_version, _API_VERSION)):
        facts = {
            "format": 1,
            "deployment": endpoint.deployment,
            "model": request.model,
            "api_version": version,
            "prompt": {"instruction": request.prompt.instruction},
            "temperature": request.temperature,
            "max_output_tokens": 0,
        }
        # Encoded once, since a reader may try all limits; quotes within the instruction are escaped.
        name = b'"max_output_tokens": '
        head, _, tail = json.dumps(facts, sort_keys=True).encode().partition(name + b"0")
        for limit in limits:
            yield EarlierKeys(_digest(b"%b%b%d%b" % (head, name, limit, tail)).hex(), limit)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_KEY_BYTES).digest()
