"""Detects folders that are Delta, Iceberg or Hudi tables, and shows how to export a snapshot.

Only the files listed in a table's metadata are live; others were replaced or deleted. Summarizing all files
of the folder would cost money for deleted rows, and show them to readers.
"""

import os
import re
from collections.abc import Iterator, Sequence

from tasks.core.errors import TableFolderError
from tasks.core.escaping import printable
from tasks.core.model import TableFolder
from tasks.core.storage import stored_files
from tasks.core.storage.location import Location
from tasks.core.storage.partition_names import is_hidden, table_metadata
from tasks.core.storage.table_exports import export_of

_LOGS = {"_delta_log": "Delta", ".hoodie": "Hudi"}
_ICEBERG = "Iceberg"


def find_tables(root: Location, keys: Sequence[str]) -> tuple[TableFolder, ...]:
    """The tables that a source's folder is part of, is, or contains.

    Args:
        root: The folder, or the one file.
        keys: All keys listed in it. Tables in hidden folders are ignored, since their files are not
            partitions.

    Raises:
        StorageError: The store does not answer. Parent folders without access are skipped.
    """
    return (*_above(root), *_within(root, keys))


def table_error(tables: Sequence[TableFolder]) -> TableFolderError:
    """The error for a source that is a table; its message shows how to export the first one."""
    table, export = tables[0], export_of(tables[0])
    others = f", as are {len(tables) - 1} other folders of this source" if len(tables) > 1 else ""
    lines = "".join(f"\n    {line}" for line in export.lines)
    message = (
        f"{printable(table.address)} is a {table.kind} table{others}. Some files of a table may be dead, and "
        "their rows would be summarized too; nothing was spent. Export a snapshot and summarize that, with "
        f"{export.needs}:{lines}\nTo summarize every file of the folder anyway: --allow-table-folder."
    )
    return TableFolderError(message)


def table_warning(tables: Sequence[TableFolder]) -> str:
    """The warning when all files of a table are summarized."""
    named = ", ".join(f"{printable(table.address)} ({table.kind})" for table in tables[:3])
    more = f" and {len(tables) - 3} more" if len(tables) > 3 else ""  # noqa: PLR2004 - as many as are named
    return f"All files of tables are summarized, though some may be dead: {named}{more}"


def _within(root: Location, keys: Sequence[str]) -> list[TableFolder]:
    newest: dict[tuple[str, str], str] = {}
    for key in keys:
        if (match := table_metadata(key)) and not is_hidden(f"{match['folder'] or 'root'}/"):
            table = match["folder"] or "", _LOGS.get(match["log"], _ICEBERG)
            newest[table] = max(newest.get(table, ""), match["iceberg"] or "", key=_version)
    return [
        TableFolder(kind, _address(root, root.path(folder) if folder else root.root), metadata)
        for (folder, kind), metadata in newest.items()
    ]


def _above(root: Location) -> Iterator[TableFolder]:
    for folder in _parents(root):
        for log, kind in _LOGS.items():
            if any(stored_files.folder_entries(root, f"{folder.rstrip('/')}/{log}")):
                yield TableFolder(kind, _address(root, folder))
        names = stored_files.folder_entries(root, f"{folder.rstrip('/')}/metadata")
        found = [name for name in names if table_metadata(f"metadata/{name}")]
        if found:
            yield TableFolder(_ICEBERG, _address(root, folder), max(found, key=_version))


def _parents(root: Location) -> list[str]:
    """All parent folders, from the nearest to the root of bucket or disk; also those of a link's target."""
    paths = [root.root, os.path.realpath(root.root)] if root.is_local else [root.root]
    parents: dict[str, None] = {}
    for path in paths:
        while "/" in path.rstrip("/"):
            path = path.rstrip("/").rpartition("/")[0]  # noqa: PLW2901 - on to the next
            parents[path or "/"] = None
    return list(parents)


def _address(root: Location, path: str) -> str:
    return path if root.is_local else str(root.fs.unstrip_protocol(path))


def _version(metadata: str) -> tuple[int, str]:
    """Sort key of Iceberg's metadata files: ``v3.metadata.json``, ``00003-UUID.metadata.json``."""
    number = re.match(r"v?(\d+)", metadata)
    return int(number[1]) if number else -1, metadata
