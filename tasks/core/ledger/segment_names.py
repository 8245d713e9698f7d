"""Names of ledger segments: ``_ledger/HASH/FINGERPRINT-LEVEL-DIGEST.segment``.

The folder is the partition's, whatever was requested. The beginning of a name says for which request a
segment was written, so that finishing one request keeps the replies to others. Names hold hashes only, of the
partition's key and of the request, and do not end in ``.parquet``, so that readers which search the
destination for such files find only what is published. Versions before 0.3.0 had a folder per partition and
request, and 0.1.0 named its segments ``.parquet``.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence

from tasks.core.earlier_keys import EarlierKeys

FOLDER = "_ledger"

_NAME = re.compile(r"(?P<request>[0-9a-f]{16}-|)(?P<level>\d+)-(?P<digest>[0-9a-f]{32})\.(?:segment|parquet)")
_HALF_WRITTEN = re.compile(r"\.[0-9a-f]{32}")
_FINGERPRINT_DIGITS = 16


def folder_of(partition_key: str, fingerprint: str = "") -> str:
    """Where a partition's segments are, below the destination.

    Args:
        partition_key: The partition.
        fingerprint: Empty; versions before 0.3.0 had a folder for each.
    """
    name = f"{fingerprint} {partition_key}"
    return f"{FOLDER}/{hashlib.blake2b(name.encode(), digest_size=16).hexdigest()}"


def prefix_of(fingerprint: str) -> str:
    """The beginning of the names of a request's segments; empty for an empty fingerprint."""
    return f"{fingerprint[:_FINGERPRINT_DIGITS]}-" if fingerprint else ""


def name_of(prefix: str, level: int, digest: str) -> str:
    """The name of a segment."""
    return f"{prefix}{level}-{digest}.segment"


def is_segment(name: str) -> bool:
    """Whether a file of the folder is a segment."""
    return _NAME.fullmatch(name) is not None


def is_of(name: str, prefix: str) -> bool:
    """Whether a file is a segment of one request, or what a kill left of a segment of any."""
    named = _NAME.fullmatch(name)
    return named["request"] == prefix if named else _HALF_WRITTEN.fullmatch(name) is not None


def level_of(name: str) -> int:
    """How often the replies of a segment were merged."""
    return int(name.split("-")[-2])


def digest_of(name: str) -> str:
    """The digest of a segment's bytes."""
    return name.rpartition("-")[2].partition(".")[0]


def is_begun(
    partition_key: str, fingerprint: str, earlier: Sequence[EarlierKeys], begun: frozenset[str]
) -> bool:
    """Whether the ledger has replies to a request for a partition.

    Args:
        partition_key: The partition.
        fingerprint: Of the request.
        earlier: Its fingerprints in versions before 0.3.0.
        begun: As ``begun_in`` returned it.
    """
    mine = f"{folder_of(partition_key)}/{prefix_of(fingerprint)}"
    return mine in begun or any(f"{folder_of(partition_key, one.fingerprint)}/" in begun for one in earlier)


def begun_in(keys: Iterable[str]) -> frozenset[str]:
    """Folder and request of every segment among some keys of a destination."""
    found = (key.rpartition("/") for key in keys if key.startswith(f"{FOLDER}/"))
    named = ((folder, _NAME.fullmatch(name)) for folder, _, name in found)
    return frozenset(f"{folder}/{name['request']}" for folder, name in named if name)
