"""Row keys of versions before 0.3.0, to find the replies that these versions paid for.

Their hashes also contain the deployment, the API version and ``max_output_tokens``.
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
"""The default API version of 0.1.0 and 0.2.0. It must not follow a later default, or their replies are paid
again."""
_LIMIT = 256
"""The default ``max_output_tokens`` of 0.1.0 and 0.2.0."""
_MAX_LIMIT = 128_000
"""The largest ``max_output_tokens`` that these versions accepted. Fewer to try would be faster (all take half
a second per fingerprint), but replies under other limits would be paid again."""


@dataclass(frozen=True, slots=True)
class EarlierKeys:
    """Computes the keys of one request's rows as versions before 0.3.0 did.

    Attributes:
        fingerprint: The hash of everything but the row's text; with deployment, API version and limit.
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

    Those of the configured limit and API version come first, then those of these versions' defaults.
    """
    limits = tuple(dict.fromkeys((request.max_output_tokens, _LIMIT)))
    return tuple(keys for endpoint in endpoints for keys in _under(request, endpoint, limits))


@lru_cache(maxsize=256)
def earlier_limit(request: Request, endpoints: tuple[Endpoint, ...], fingerprint: str) -> int | None:
    """The limit with which a request had this fingerprint before 0.3.0; None if there is none."""
    limits = range(1, _MAX_LIMIT + 1)
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
        # Encoded once, since all limits may be tried. JSON escapes quotes in the instruction, so this name
        # appears once.
        name = b'"max_output_tokens": '
        head, _, tail = json.dumps(facts, sort_keys=True).encode().partition(name + b"0")
        for limit in limits:
            yield EarlierKeys(_digest(b"%b%b%d%b" % (head, name, limit, tail)).hex(), limit)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_KEY_BYTES).digest()
