"""This machine's folder for temporary files (``TMPDIR``): where it is, and whose the files in it are.

A file's name tells which process made it, so that the next run here can remove what a killed one left, and
leaves alone what another run is working on. Earlier versions named such files ``.parquet``.
"""

import hashlib
import os
import re
import tempfile
import uuid
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from tasks.core.store.owner import Owner

PREFIX = "summarize-parquet"
_NAME = re.compile(rf"{PREFIX}-([0-9a-f]{{12}})-(\d+)-(\d*)-[0-9a-f]{{32}}\.(?:tmp|parquet)")


def folder() -> Path:
    """Where temporary files go."""
    # gettempdir would silently go elsewhere, perhaps to a smaller disk, when TMPDIR is missing or full.
    return Path(os.environ.get("TMPDIR") or tempfile.gettempdir())


def new_name() -> str:
    """A name nobody has, for a file of this process."""
    me = Owner.this_process()
    return f"{PREFIX}-{_machine(me)}-{me.pid}-{me.started}-{uuid.uuid4().hex}.tmp"


def remove_leftovers() -> int:
    """Remove files whose process has ended; returns how many. Files that cannot be removed are left."""
    removed = 0
    with suppress(OSError):
        for path in [path for path in folder().iterdir() if _is_left(path.name)]:
            with suppress(OSError):
                path.unlink()
                removed += 1
    return removed


def _is_left(name: str) -> bool:
    told, me = _NAME.fullmatch(name), Owner.this_process()
    if not told or told[1] != _machine(me):
        return False
    return replace(me, pid=int(told[2]), started=told[3]).has_ended


def _machine(owner: Owner) -> str:
    """Stands for the boot and process namespace in which a number means a process."""
    return hashlib.blake2b(f"{owner.host} {owner.space}".encode(), digest_size=6).hexdigest()
