"""Temporary files without a name, in ``TMPDIR``.

The kernel removes such a file when it is closed, or when its process ends for any reason.
"""

import os
import tempfile
from pathlib import Path
from typing import BinaryIO, cast

from tasks.core.errors import StorageError

PREFIX = "summarize-parquet"


def folder() -> Path:
    """The folder for temporary files."""
    # If TMPDIR is missing or full, gettempdir silently uses another folder, maybe on a smaller disk.
    return Path(os.environ.get("TMPDIR") or tempfile.gettempdir())


def unnamed_file(where: Path) -> BinaryIO:
    """Create a file without a name, open for reading and writing.

    Raises:
        StorageError: It cannot be created.
    """
    try:
        return cast("BinaryIO", tempfile.TemporaryFile(dir=where, prefix=f".{PREFIX}-"))
    except OSError as error:
        message = (
            f"Cannot create a temporary file in {where}: {error.strerror}. "
            "Create the folder, free space in it, or set TMPDIR."
        )
        raise StorageError(message) from None
