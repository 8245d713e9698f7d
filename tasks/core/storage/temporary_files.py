"""This machine's temporary files: where they go (``TMPDIR``), and files without a name.

A file without a name is gone when it is closed or its process ends, however that ends.
"""

import os
import tempfile
from pathlib import Path
from typing import BinaryIO, cast

from tasks.core.errors import StorageError

PREFIX = "summarize-parquet"


def folder() -> Path:
    """Where temporary files go."""
    # gettempdir would silently go elsewhere, perhaps to a smaller disk, when TMPDIR is missing or full.
    return Path(os.environ.get("TMPDIR") or tempfile.gettempdir())


def unnamed_file(where: Path) -> BinaryIO:
    """A new file without a name, open for reading and writing.

    Raises:
        StorageError: The folder does not take it.
    """
    try:
        return cast("BinaryIO", tempfile.TemporaryFile(dir=where, prefix=f".{PREFIX}-"))
    except OSError as error:
        message = (
            f"Cannot make a temporary file in {where}: {error.strerror}. "
            "Free or create the folder, or set TMPDIR."
        )
        raise StorageError(message) from None
