"""Files of a source that are not partitions: counted by reason, and described for messages."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from tasks.core.escaping import printable
from tasks.core.model import LeftOut
from tasks.core.storage.partition_names import suffix_like_parquet

_EXAMPLES = 3
_WORDS = {
    "hidden": "hidden names",
    "other_files": "other files",
    "maybe_parquet": "files that may be Parquet under another suffix",
    "table_metadata": "files of table metadata",
    "unmatched": "files that do not match the glob",
}


def count(keys: Iterable[str], reasons: Iterable[str | None]) -> LeftOut:
    """Count the keys that have a reason to be left out; reasons are those of ``NameFilter.skip_reason``."""
    by_reason: defaultdict[str, list[str]] = defaultdict(list)
    for key, reason in zip(keys, reasons, strict=True):
        if reason is not None:
            by_reason[reason].append(key)
    examples = {reason: _examples(found) for reason, found in by_reason.items()}
    counts: dict[str, Any] = {reason: len(found) for reason, found in by_reason.items()}
    return LeftOut(examples=examples, **counts)


def _examples(keys: list[str]) -> tuple[str, ...]:
    """The first keys; one of each suffix comes before more of the same suffix."""
    firsts: dict[str, str] = {}
    for key in keys:
        firsts.setdefault(suffix_like_parquet(key), key)
    return tuple(dict.fromkeys([*firsts.values(), *keys[:_EXAMPLES]]))[:_EXAMPLES]


def describe_left_out(found: LeftOut) -> str:
    """Describe the files left out: counts, examples, and how to include files that may be Parquet."""
    counts = {reason: getattr(found, reason) for reason in _WORDS}
    parts = [f"{n:,} {_WORDS[reason]}{_such_as(found, reason)}" for reason, n in counts.items() if n]
    return ", ".join(parts) or "nothing"


def _such_as(found: LeftOut, reason: str) -> str:
    keys = found.examples.get(reason, ())
    if not keys:
        return ""
    more = ", ..." if getattr(found, reason) > len(keys) else ""
    hint = ""
    if reason == "maybe_parquet":
        suffixes = dict.fromkeys(suffix_like_parquet(key) for key in keys)
        hint = f"; to include them, add {', '.join(suffixes)} to --suffix"
    return f" ({', '.join(map(printable, keys))}{more}{hint})"
