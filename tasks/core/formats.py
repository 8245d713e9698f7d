"""Format versions: this program's version, and the check that refuses files of a later format.

Every file of this program is read by name: columns, statuses and entries that this version does not know
are kept or ignored. Only a format whose number is higher than the one known here is refused, before anything
in it is overwritten or paid again.
"""

import re

from tasks.core.errors import InputError

VERSION = "0.3.0"
"""Of this program."""

FORMAT = "format"
"""The entry with a file's format version; files without it have the first one."""
PROGRAM = "program"
"""The entry with the version of this program that wrote the file."""

_VERSION = re.compile(r"[0-9A-Za-z.+-]{1,32}")


def is_readable(found: str, newest: int) -> bool:
    """Whether a format version is none, which is the first, or one up to the newest that is known."""
    return not found or (found.isdecimal() and int(found) <= newest)


def check_format(found: str, newest: int, program: str, where: str) -> None:
    """Refuse a file whose format only a later version of this program can read.

    Args:
        found: The file's format version; empty for a file without one.
        newest: The highest format version that can be read here.
        program: The version of this program that wrote the file.
        where: Which file, as the message names it.

    Raises:
        InputError: The format is too new.
    """
    if is_readable(found, newest):
        return
    writer = f"version {program}" if _VERSION.fullmatch(program) else "a later version"
    number = found if _VERSION.fullmatch(found) else "unknown"
    message = (
        f"{where} was written by {writer} of this program in format {number}; version {VERSION} reads "
        f"formats up to {newest}. It is left as it is and nothing was requested for it: run with {writer} or "
        "a later one, or choose another destination."
    )
    raise InputError(message)
