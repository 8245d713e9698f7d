"""Escapes control characters in file names before they are shown in logs, messages and reports.

A name may contain line breaks, terminal control sequences or characters that change the writing direction,
and could be used to forge log lines. Machine-readable data, such as a report's JSON, is not escaped.
"""

import unicodedata

_NOT_SHOWN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories: control, format, surrogate, line separator and paragraph separator."""


def printable(name: str) -> str:
    r"""Escape a name to one line of visible characters: a line break becomes ``\n``, and so on."""
    if name.isprintable():
        return name
    return "".join(_escaped(one) if unicodedata.category(one) in _NOT_SHOWN else one for one in name)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
