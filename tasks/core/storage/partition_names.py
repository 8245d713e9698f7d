"""Decides by name which files are partitions: hidden names, suffixes and globs.

A name is hidden if it starts with ``_`` or ``.``, and so is everything in a folder with such a name. A folder
``_name=value`` is not hidden: it contains the data of a partition column whose name starts with ``_``.
"""

import re
from collections.abc import Sequence

from tasks.core.options import NO_SUFFIX

_ANY_SUFFIX = ("",)
_LIKE_PARQUET = {".parquet", ".parq", ".pq"}
_TABLE_METADATA = re.compile(
    r"(?:(?P<folder>.*?)/)?(?:(?P<log>_delta_log|\.hoodie)/.*|metadata/(?P<iceberg>[^/]+\.metadata\.json(?:\.gz)?))",
    re.DOTALL,
)
_GLOB = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


class NameFilter:
    """Selects the keys of a source that are partitions.

    Args:
        wild: The source from its first wildcard on; empty for a folder or one file.
        suffixes: Suffixes of partitions; not used when the wildcard part names files.
    """

    def __init__(self, wild: str, suffixes: Sequence[str]) -> None:
        self._pattern = glob_pattern(wild)
        self._suffixes = _ANY_SUFFIX if names_files(wild) else tuple(suffixes)

    def skip_reason(self, key: str) -> str | None:
        """Why a key is not a partition, as the name of a field of ``LeftOut``; None for a partition."""
        if table_metadata(key):
            return "table_metadata"
        if not self._pattern.fullmatch(key):
            return "unmatched"
        if is_hidden(key):
            return "hidden"
        if has_suffix(key, self._suffixes):
            return None
        return "maybe_parquet" if suffix_like_parquet(key) else "other_files"


def names_files(wild: str) -> bool:
    """Whether a source's wildcard part names files, so that suffixes do not matter.

    It does when its last part is more than ``*`` or ``**``, as in ``day=*/part-*``.
    """
    return bool(wild.rpartition("/")[2].strip("*"))


def is_partition(key: str, suffixes: Sequence[str]) -> bool:
    """Whether a key is a partition by its name: not hidden, with one of the suffixes."""
    return has_suffix(key, suffixes) and not is_hidden(key)


def is_hidden(key: str) -> bool:
    """Whether readers skip a key because its name or one of its folders is hidden."""
    *folders, name = key.split("/")
    return name.startswith(("_", ".")) or any(
        folder.startswith(".") or (folder.startswith("_") and "=" not in folder) for folder in folders
    )


def has_suffix(key: str, suffixes: Sequence[str]) -> bool:
    """Whether a key ends with one of the suffixes; case-sensitive."""
    name = key.rpartition("/")[2]
    return any("." not in name if suffix == NO_SUFFIX else name.endswith(suffix) for suffix in suffixes)


def suffix_like_parquet(key: str) -> str:
    """The suffix of a key whose file may be Parquet under an unusual name; empty for other files."""
    stem, dot, end = key.rpartition("/")[2].rpartition(".")
    if not dot:
        return NO_SUFFIX
    return f".{end}" if stem and f".{end}".lower() in _LIKE_PARQUET else ""


def table_metadata(key: str) -> re.Match[str] | None:
    """Match the key of a metadata file of a Delta, Hudi or Iceberg table; None for other keys.

    The groups are ``folder`` (of the table), ``log`` (the log folder of a Delta or Hudi table) and
    ``iceberg`` (the name of an Iceberg metadata file).
    """
    # A cheap check first, since there may be millions of keys, and most are data.
    is_likely = "_delta_log/" in key or ".hoodie/" in key or ".metadata.json" in key
    return _TABLE_METADATA.fullmatch(key) if is_likely else None


def glob_pattern(wild: str) -> re.Pattern[str]:
    """Compile a glob to a pattern for keys; without wildcards it matches every key."""
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", wild or "**")
    return re.compile("".join(_GLOB.get(piece, re.escape(piece)) for piece in pieces), re.DOTALL)
