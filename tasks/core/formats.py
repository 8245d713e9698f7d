"""Format versions: the version of this program, and a check that rejects files of a later format.

All files are read by name: unknown columns, statuses and entries are kept or ignored. Only a file with a
higher format number is rejected, before anything in it is overwritten or requested again.
"""

import re

from tasks.core.errors import InputError

VERSION = "0.3.0"
"""The version of this program."""

FORMAT = "format"
"""Name of the entry with a file's format number; files without it have format 1."""
PROGRAM = "program"
"""Name of the entry with the version of the program that wrote the file."""

_VERSION = re.compile(r"[0-9A-Za-z.+-]{1,32}")


def is_readable(found: str, newest: int) -> bool:
    """Whether a format number is missing, or not higher than the newest supported one."""
    return not found or (found.isdecimal() and int(found) <= newest)


def check_format(found: str, newest: int, program: str, where: str) -> None:
    """Reject a file whose format only a later version of this program can read.

    Args:
        found: The file's format number; empty for a file without one.
        newest: The newest supported format number.
        program: The version of the program that wrote the file.
        where: The file's name for the message.

    Raises:
        InputError: The format is too new.
    """
    if is_readable(found, newest):
        return
    writer = f"version {program}" if _VERSION.fullmatch(program) else "a later version"
    number = found if _VERSION.fullmatch(found) else "unknown"
    message = (
        f"{where} was written by {writer} of this program in format {number}; version {VERSION} reads "
        f"formats up to {newest}. The file was not changed, and nothing was requested: run with {writer} or "
        "a later one, or choose another destination."
    )
    raise InputError(message)
